"""What happens to the service and to its host in the middle of work."""

import os
import random
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tests.service.host import Host
from tests.service.process import Service
from tests.service.waiting import until

SEAM = Path(__file__).parent / "seam"
BOUNDARIES = ("before", "unrecorded", "recorded", "committed")

_LONGEST = 2.0  # seconds from the first call to a blow
_NEVER = 4.0  # seconds after which a boundary that was not met is met no more
_ATTEMPTS = 50  # to make a file system as small as what it holds
_SIZE = "64g"  # of a file system that is not full; nothing of it is taken before it is used
# the lab takes a libvirtd that ends sooner for one that cannot work
_LIBVIRTD_LIVES = 1.2


def killed(service: Service, chance: random.Random) -> str:
    """SIGKILL for all of the service's processes, at a moment."""
    moment = chance.uniform(0, _LONGEST)
    # a moment of its own, not one of an event
    time.sleep(moment)
    service.kill()
    return f"service after {moment:.2f} s"


def worker_killed(service: Service, chance: random.Random) -> str:
    """SIGKILL for the process that answers alone: the one that watches starts another."""
    moment = chance.uniform(0, _LONGEST)
    time.sleep(moment)
    worker = service.worker()
    os.kill(worker, 9)
    until(lambda: worker not in _workers(service), 20, "the worker is gone")
    return f"worker after {moment:.2f} s"


def _workers(service: Service) -> list[int]:
    with suppress(AssertionError):
        return [service.worker()]
    return []


def arm(plan: Path, boundary: str, number: int) -> None:
    """Let the service that has this plan be killed at the boundary of that number, from now on."""
    plan.with_suffix(".hit").unlink(missing_ok=True)
    new = plan.with_suffix(".new")
    new.write_text(f"{boundary} {number}")
    new.rename(plan)


def armed_killed(service: Service, plan: Path, seconds: float = _NEVER) -> str:
    """Wait until it has been killed at the boundary; where it was, or nothing when it was not met."""
    with suppress(AssertionError):
        until(lambda: not service.runs(), seconds, "killed at a boundary")
    plan.unlink(missing_ok=True)
    hit = plan.with_suffix(".hit")
    if not hit.exists():
        assert service.runs(), f"the service has ended by itself:\n{service.log[-3000:]}"
        return ""
    until(lambda: not service.runs(), 10, "killed at a boundary")
    # reaps it
    service.kill()
    return hit.read_text().strip()


def libvirtd_killed(host: Host, chance: random.Random) -> str:
    """SIGKILL for libvirtd, at a moment; the lab starts the next one."""
    moment = chance.uniform(0, _LONGEST)
    time.sleep(moment)
    host.kill_libvirtd()
    time.sleep(_LIBVIRTD_LIVES)
    return f"libvirtd after {moment:.2f} s"


@contextmanager
def file_system(folder: Path) -> Iterator[None]:
    """A file system of its own at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=711", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full(folder: Path, leave: int) -> Iterator[None]:
    """Leave `leave` bytes in the file system at `folder` while the block runs."""
    for database in folder.glob("*.db"):
        # a log that was longer once takes much without growing
        with closing(sqlite3.connect(database, timeout=30)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    for attempt in range(_ATTEMPTS):
        found = os.statvfs(folder)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        # refused when somebody has written more there meanwhile
        if _remount(folder, str(used + leave), check=attempt == _ATTEMPTS - 1):
            break
    try:
        yield
    finally:
        _remount(folder, _SIZE)


def _remount(folder: Path, size: str, *, check: bool = True) -> bool:
    return subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=check).returncode == 0
