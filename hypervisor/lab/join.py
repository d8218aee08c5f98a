"""The last step into a running lab: join its namespaces and become the command."""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from hypervisor.lab.errors import complain
from hypervisor.lab.signals import WATCHED
from hypervisor.lab.syscalls import NEW_MOUNT, NEW_NET, NEW_UTS, die_with_parent, setns


def main(pidfd: int, command: list[str]) -> NoReturn:
    """Entry point of the interpreter, a process of the lab already; ``pidfd`` is the lab's PID 1."""
    die_with_parent(signal.SIGTERM)
    folder = Path.cwd()
    setns(pidfd, NEW_MOUNT | NEW_NET | NEW_UTS)
    os.close(pidfd)
    try:
        os.chdir(folder)  # joining a mount namespace leads to its root
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvp(command[0], command)  # noqa: S606 - no shell is meant
    except OSError as error:
        complain(f"{command[0]}: {error.strerror}")
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)
