"""What goes wrong with a lab, and the exit status a command line should end with."""

import sys

from hypervisor.errors import HypervisorError


class LabError(HypervisorError):
    """The lab itself failed (not the command in it); the message says what to do about it."""

    #: Exit status for a command line; 125 is what container tools use for "the tool itself failed".
    exit_status = 125


class CommandNotFound(LabError):
    """The command to run in the lab does not exist."""

    exit_status = 127


def complain(text: str) -> None:
    """Say something on standard error where no exception reaches the user."""
    sys.stderr.write(f"hypervisor lab: {text}\n")
