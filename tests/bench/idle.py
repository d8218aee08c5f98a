"""What the service costs when nobody asks it anything."""

import os
import time
from pathlib import Path

_SECONDS = 20.0


def measure(pid: int) -> tuple[float, float]:
    """The share of a core in percent, and the memory in MiB, of process `pid` and its children."""
    before = _cpu_seconds(pid)
    time.sleep(_SECONDS)
    used = _cpu_seconds(pid) - before
    return 100 * used / _SECONDS, sum(_memory(one) for one in _family(pid))


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


def _cpu_seconds(pid: int) -> float:
    ticks = 0
    for one in _family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no memory to measure")
