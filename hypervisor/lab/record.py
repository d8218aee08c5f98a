"""The run files: which labs run, and which process holds the namespaces of each.

One file per lab, ``/run/hypervisor/lab/NAME.json``, mode 0600, locked by the process that runs the lab. The
lock goes with that process however it ends, so a file without one is stale and is replaced.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from hypervisor.lab.errors import LabError

FOLDER = Path("/run/hypervisor/lab")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Lab:
    """One running lab."""

    name: str
    #: The lab's PID 1, as a process id of the PID namespace that started the lab.
    pid: int
    #: Its start time in clock ticks since boot: tells a re-used process id from the process that was meant.
    started: int
    #: Where its private folders are.
    folder: str
    hostname: str
    host_uuid: str

    @property
    def socket(self) -> Path:
        """libvirt's socket, to connect from outside: ``qemu+unix:///system?socket=...``."""
        return Path(self.folder, "run", "libvirt-sock")

    def alive(self) -> bool:
        """Whether the process is still the one that was recorded."""
        return start_time(self.pid) == self.started


def start_time(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None when there is none or only its exit status."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program name before the last parenthesis may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def check_name(name: str) -> str:
    """Give the name back when it can be a file name and a host name.

    Raises:
        LabError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise LabError(f"lab name {name!r}: use at most 32 lower-case letters, digits and inner hyphens")
    return name


def running() -> list[Lab]:
    """The labs that run now and were started in this PID namespace, by name."""
    labs = []
    for path in sorted(FOLDER.glob("*.json")):
        lab = _read(path)
        if lab is not None and lab.alive():
            labs.append(lab)
    return labs


def find(name: str) -> Lab:
    """The running lab of that name.

    Raises:
        LabError: none runs under it.
    """
    lab = _read(FOLDER / f"{check_name(name)}.json")
    if lab is None or not lab.alive():
        others = ", ".join(other.name for other in running()) or "none"
        raise LabError(f"no lab {name!r} runs here (running: {others})")
    return lab


class Claim:
    """A name held for a lab; what is published under it is what ``find`` sees."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self._descriptor = descriptor

    def publish(self, lab: Lab) -> None:
        """Write the run file."""
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(asdict(lab)).encode() + b"\n", 0)


@contextmanager
def claim(name: str | None) -> Iterator[Claim]:
    """Hold a name for the length of the block; None takes the first free of default, default-2, ...

    Raises:
        LabError: a lab of that name runs.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    candidates = (
        [check_name(name)] if name else ["default", *(f"default-{number}" for number in range(2, 1000))]
    )
    for candidate in candidates:
        path = FOLDER / f"{candidate}.json"
        with _alone():
            _sweep()
            descriptor = _lock(path)
        if descriptor is None:
            continue
        try:
            os.truncate(descriptor, 0)
            yield Claim(candidate, descriptor)
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)
        return
    raise LabError(
        f"a lab {candidates[0]!r} runs already: join it with 'hypervisor lab enter', or choose a --name"
    )


@contextmanager
def _alone() -> Iterator[None]:
    # Else a sweep's short lock could look like a running lab to somebody who claims that name.
    descriptor = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep() -> None:
    """Remove the run files of labs that were killed."""
    for path in FOLDER.glob("*.json"):
        descriptor = _lock(path)
        if descriptor is not None:
            path.unlink()
            os.close(descriptor)


def _lock(path: Path) -> int | None:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between open and lock the holder may have ended and removed the file: then this is no longer the
            # name.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _read(path: Path) -> Lab | None:
    try:
        return Lab(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
