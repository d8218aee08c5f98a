"""``python -m hypervisor.lab``: the lab without the rest of the project."""

import argparse
import sys
from pathlib import Path

from hypervisor.lab import LabError, enter, run, running
from hypervisor.lab.errors import complain


def main(arguments: list[str]) -> int:
    """Run a command in a new lab, ``enter`` a running one, or ``list`` them; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hypervisor.lab", description=__doc__)
    parser.add_argument("--name", help="the lab's name (default: the first free of default, default-2, ...)")
    parser.add_argument("--state", type=Path, help="folder for libvirt's data, kept between runs")
    parser.add_argument("--hostname", help="the lab's host name (default: lab-NAME)")
    parser.add_argument("--pass-fd", type=int, action="append", default=[], help="descriptor for the command")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- CMD... | enter -- CMD... | list")
    options = parser.parse_args(arguments)
    command: list[str] = options.command
    try:
        if command == ["list"]:
            for lab in running():
                sys.stdout.write(f"{lab.name}\t{lab.pid}\t{lab.socket}\n")
            return 0
        if command[:2] == ["enter", "--"]:
            return enter(command[2:], name=options.name or "default")
        return run(
            command[1:] if command[:1] == ["--"] else command,
            name=options.name,
            state=options.state,
            pass_fds=options.pass_fd,
            hostname=options.hostname,
        )
    except LabError as error:
        complain(str(error))
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
