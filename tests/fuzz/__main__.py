"""``python -m tests.fuzz [SECONDS [TARGET]]``: a coverage-guided search for what breaks a target.

It goes on where it was ended, from the inputs in ``.fuzz`` and from those kept beside this file, of which at
the end the few are kept that together reach everything. An input that breaks something is put into
``crashes``, where `test_corpus` finds it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_HERE = Path(__file__).parent
_WORK = _HERE.parent.parent / ".fuzz"
TARGETS = ("codec", "methods")
_LIMITS = ["-timeout=10", "-rss_limit_mb=768", "-malloc_limit_mb=256"]
# the longest input, in bytes: four calls need few hundred
_LENGTH = {"codec": 4096, "methods": 512}
# of one target's inputs, in bytes: they are in the repository
_KEPT = 1 << 20


def _fuzzer(target: str, arguments: Sequence[str], log: Path) -> tuple[int, str]:
    """Exit status of libFuzzer, and what it wrote."""
    temporary = _WORK / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.fuzz.run", target, *arguments]
    with log.open("w") as written:
        done = subprocess.run(
            command, stdout=written, stderr=written, check=False, env={**os.environ, "TMPDIR": str(temporary)}
        )
    return done.returncode, log.read_text(errors="replace")


def _size(folder: Path) -> str:
    files = [file for file in folder.glob("*") if file.is_file()]
    return f"{len(files)} inputs, {sum(file.stat().st_size for file in files)} bytes"


def _minimise(target: str, found: Path, kept: Path) -> None:
    fewest = _WORK / target / "fewest"
    shutil.rmtree(fewest, ignore_errors=True)
    fewest.mkdir()
    folders = [str(folder) for folder in (fewest, kept, found)]
    status, said = _fuzzer(target, ["-merge=1", *_LIMITS, *folders], _WORK / target / "merge.log")
    length = sum(file.stat().st_size for file in fewest.iterdir())
    if status or not 0 < length <= _KEPT:
        raise SystemExit(
            f"fuzz: the inputs of {target} are left as they were ({length} bytes):\n{said[-2000:]}"
        )
    shutil.rmtree(kept)
    fewest.rename(kept)


def _fuzz(target: str, seconds: int) -> bool:
    """Whether nothing broke."""
    found, kept, crashes = _WORK / target / "corpus", _HERE / "corpus" / target, _HERE / "crashes" / target
    for folder in (found, kept, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={crashes}/",
        "-print_final_stats=1",
        f"-max_len={_LENGTH[target]}",
        # long ones from the beginning
        "-len_control=0",
        *_LIMITS,
    ]
    if (words := _HERE / f"{target}.dict").exists():
        arguments.append(f"-dict={words}")
    started = time.monotonic()
    status, said = _fuzzer(target, [*arguments, str(found), str(kept)], _WORK / target / "fuzz.log")
    took = time.monotonic() - started
    executed = int((re.findall(r"number_of_executed_units: (\d+)", said) or ["0"])[-1])
    peak = (re.findall(r"peak_rss_mb: +(\d+)", said) or ["?"])[-1]
    print(
        f"{target}: {executed} executions in {took:.0f} s ({executed / took:.0f} a second), at most {peak} MB"
    )
    if status:
        print(f"{target}: BROKEN, see {crashes} and {_WORK / target / 'fuzz.log'}:\n{said[-3000:]}")
        return False
    _minimise(target, found, kept)
    print(f"{target}: kept are {_size(kept)}; found so far {_size(found)}", flush=True)
    return True


def main() -> int:
    """Fuzz; the exit status is 1 when something broke."""
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=", description=__doc__)
    parser.add_argument("seconds", type=int, nargs="?", default=60, help="of each target")
    parser.add_argument("target", choices=[*TARGETS, "all"], nargs="?", default="all")
    wanted = parser.parse_args()
    targets = TARGETS if wanted.target == "all" else (wanted.target,)
    outcomes = [_fuzz(target, wanted.seconds) for target in targets]
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
