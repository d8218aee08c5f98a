"""``python -m tests.faults``: as many faults as are asked for, in rounds, in a lab; see ``--help``.

With ``--log`` the rounds that the file has are not done again: so a long run is made in slices.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from tests.faults.rounds import Plan, Result, kept, planned, play
from tests.faults.sweep import play_sweep, swept
from tests.faults.town import Town, founded
from tests.service.host import Host

_KINDS = {"service": "kills of the service", "libvirtd": "kills of libvirtd", "full": "full file systems"}


def main() -> int:
    """Play the rounds; returns 1 when anything was lost, leaked or stuck."""
    arguments = _arguments()
    print(f"seed {arguments.seed}", flush=True)
    done = list(_logged(arguments.log))
    counts = {kind: getattr(arguments, kind) for kind in _KINDS}
    known = {one.number for one in done if one.seed == arguments.seed}
    first = arguments.first
    every = swept() if arguments.sweep else planned(arguments.seed, counts)
    rounds = (one for one in every if one.number >= first and one.number not in known)
    with ExitStack() as stack:
        host = Host()
        stack.callback(host.close)
        deadline = time.monotonic() + arguments.seconds
        for result in _played(rounds, host, arguments, deadline):
            print(result, flush=True)
            if not result.clean:
                print(result.found, flush=True)
            done.append(result)
            if arguments.log:
                with arguments.log.open("a") as log:
                    log.write(json.dumps(result.as_dict()) + "\n")
    _print(done)
    return 0 if all(one.clean for one in done) else 1


def _played(
    rounds: Iterator[Plan], host: Host, arguments: argparse.Namespace, deadline: float
) -> Iterator[Result]:
    with ExitStack() as stack:
        town: Town | None = None
        for plan in rounds:
            if time.monotonic() > deadline:
                print("the time is over", flush=True)
                return
            if town is None:
                folder = Path(stack.enter_context(TemporaryDirectory(prefix="faults-", dir="/var/tmp")))
                town = stack.enter_context(founded(folder, host))
            try:
                result = (play_sweep if arguments.sweep else play)(town, plan, arguments.seed)
            except AssertionError as error:
                result = Result(plan.number, arguments.seed, plan.kind, stuck=[str(error)])
            yield result
            if not result.clean:
                if arguments.keep:
                    kept(arguments.keep / f"{arguments.seed}-{plan.number}", town)
                # what was found would be found again
                stack.close()
                town = None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    for kind, what in _KINDS.items():
        parser.add_argument(f"--{kind}", type=int, default=0, metavar="N", help=f"N {what}")
    parser.add_argument(
        "--sweep", action="store_true", help="each kind of work, killed at each of its boundaries"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(2**16))
    parser.add_argument("--first", type=int, default=1, metavar="ROUND", help="leave out the rounds before")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no round after that time")
    parser.add_argument("--log", type=Path, help="a file that keeps the results, to go on from")
    parser.add_argument("--keep", type=Path, help="a folder for databases and logs of what was not clean")
    return parser.parse_args()


def _logged(log: Path | None) -> Iterator[Result]:
    if log is not None:
        with suppress(FileNotFoundError):
            for line in log.read_text().splitlines():
                yield Result(**json.loads(line))


def _print(done: list[Result]) -> None:
    table = Table(
        "fault", "rounds", "faults", "DONE", "ERROR", "CANCEL", "lost", "leaked", "stuck", "clean rounds"
    )
    for kind in sorted({one.kind for one in done}):
        mine = [one for one in done if one.kind == kind]
        steps = [str(sum(one.steps.get(step, 0) for one in mine)) for step in ("DONE", "ERROR", "CANCEL")]
        found = [str(sum(len(getattr(one, what)) for one in mine)) for what in ("lost", "leaked", "stuck")]
        strikes = sum(len(one.blows) for one in mine)
        clean = sum(one.clean for one in mine)
        table.add_row(kind, str(len(mine)), str(strikes), *steps, *found, f"{clean} of {len(mine)}")
    Console(width=130).print(table)


if __name__ == "__main__":
    sys.exit(main())
