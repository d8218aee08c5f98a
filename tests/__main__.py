"""``python -m tests``: the whole suite in three labs at once, because much of it waits for one guest to boot.

Arguments go to pytest; with any, everything runs in one lab. Without, the recording of what the tests saw of
the API is left in .recording.json, and it must hold all that docs/coverage.md claims.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from api.coverage.recording import committed
from tests.coverage.whole import FOLDER, compare, keep

_HERE = Path(__file__).parent
# all three take equally long; ten busy guests move when the other two are through
_PARTS = (("service", "console", "migration"), ("network", "devices", "wire", "connection", "domain"))
# in the third, after what has few guests
_LAST = ("clients", "statistics")
# where the time goes
_WHOLE = ["-m", "not long", "--durations=20", "--durations-min=5"]
# what `make coverage` takes up
_RECORDING = _HERE.parent / ".recording.json"


def _command(paths: list[str], arguments: list[str]) -> list[str]:
    pytest = [sys.executable, "-m", "pytest", *paths, *arguments]
    return [sys.executable, "-m", "hypervisor.lab", "--", *pytest]


def main() -> int:
    """Run the suite; returns the exit status of the part that failed, 0 when none did."""
    if len(sys.argv) > 1:
        return subprocess.run(_command([], sys.argv[1:]), check=False).returncode
    known = {name for part in (*_PARTS, _LAST) for name in part}
    rest = sorted({path.parent.name for path in _HERE.glob("*/test_*.py")} - known)
    with tempfile.TemporaryDirectory() as recordings:
        failed = _run([*_PARTS, [*rest, *_LAST]], {**os.environ, FOLDER: recordings})
        seen = keep(Path(recordings), _RECORDING)
    # what failed has not seen all that it could
    return failed or compare(committed(), seen)


def _run(parts: Sequence[Sequence[str]], environment: dict[str, str]) -> int:
    """Run all of `parts` at once; the first exit status that is not 0."""
    with ExitStack() as stack:
        # the others are shown when the first is through: their reports would be mixed up line by line
        reports = [None, *(stack.enter_context(tempfile.TemporaryFile()) for _ in parts[1:])]
        running = []
        for part, report in zip(parts, reports, strict=True):
            command = _command([f"tests/{name}" for name in part], _WHOLE)
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=report, stderr=report, env=environment
            )
            stack.callback(_end, process)
            running.append(process)
        statuses = []
        for process, report in zip(running, reports, strict=True):
            statuses.append(process.wait())
            if report is not None:
                report.seek(0)
                sys.stdout.buffer.write(report.read())
                sys.stdout.buffer.flush()
    return next((one for one in statuses if one), 0)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
