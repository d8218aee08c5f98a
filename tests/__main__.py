"""``python -m tests``: the whole suite in two labs at once, because much of it waits for one guest to boot.

Arguments go to pytest; with any, everything runs in one lab. Without, the recording of what the tests saw of
the API is left in .recording.json, and it must hold all that docs/coverage.md claims.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from api.coverage.recording import committed
from tests.coverage.whole import FOLDER, compare, keep

_HERE = Path(__file__).parent
# about half of the time
_FIRST = ("service", "clients")
# what measures traffic goes before the other part boots its twenty guests
_EARLY = ("network", "devices")
# where the time goes
_WHOLE = ["--durations=20", "--durations-min=5"]
# what `make coverage` takes up
_RECORDING = _HERE.parent / ".recording.json"


def _command(paths: list[str], arguments: list[str]) -> list[str]:
    pytest = [sys.executable, "-m", "pytest", *paths, *arguments]
    return [sys.executable, "-m", "hypervisor.lab", "--", *pytest]


def main() -> int:
    """Run the suite; returns the exit status of the part that failed, 0 when none did."""
    if len(sys.argv) > 1:
        return subprocess.run(_command([], sys.argv[1:]), check=False).returncode
    parts = {path.parent.name for path in _HERE.glob("*/test_*.py")} - {*_FIRST, *_EARLY}
    rest = [f"tests/{name}" for name in (*_EARLY, *sorted(parts))]
    with tempfile.TemporaryDirectory() as recordings:
        failed = _run(rest, {**os.environ, FOLDER: recordings})
        seen = keep(Path(recordings), _RECORDING)
    # what failed has not seen all that it could
    return failed or compare(committed(), seen)


def _run(rest: list[str], environment: dict[str, str]) -> int:
    # the second part is shown when the first is through: two reports would be mixed up line by line
    with tempfile.TemporaryFile() as report:
        beside = subprocess.Popen(
            _command(rest, _WHOLE), stdin=subprocess.DEVNULL, stdout=report, stderr=report, env=environment
        )
        try:
            command = _command([f"tests/{name}" for name in _FIRST], _WHOLE)
            first = subprocess.run(command, check=False, env=environment).returncode
            second = beside.wait()
        finally:
            beside.terminate()
            beside.wait()
        report.seek(0)
        sys.stdout.buffer.write(report.read())
        sys.stdout.buffer.flush()
    return first or second


if __name__ == "__main__":
    sys.exit(main())
