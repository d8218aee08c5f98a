"""How much space a folder's file system has left."""

import shlex
from pathlib import Path

from hypervisor.doctor.finding import Finding, command, problem, warning

_MIB = 2**20
_LITTLE, _NOTHING = 5 * 2**30, 256 * _MIB  # bytes


def told(path: Path, size: int, free: int) -> str:
    """What is free, in words; `size` and `free` in bytes."""
    return f"{_human(free)} of {_human(size)} are free in {path}"


def want(subject: str, path: Path, size: int, free: int) -> Finding | None:
    """What is wrong when too little is free; `size` and `free` in bytes."""
    said = told(path, size, free)
    largest = command("sh", "-c", f"du -ah {shlex.quote(str(path))} | sort -h | tail")
    if free < _NOTHING:
        return problem(subject, f"it is full: {said}", largest)
    if free < _LITTLE and free < size / 10:
        return warning(subject, f"it is nearly full: {said}", largest)
    return None


def _human(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size // _MIB} MiB"
