"""The lab's libvirt, as the tests look at it and disturb it."""

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import libvirt

from tests.service.waiting import until

URI = "qemu:///system"
_SOCKET = Path("/run/libvirt/libvirt-sock")
_PID_FILE = Path("/run/libvirt/libvirtd.pid")
# a tenth of what others get
_MODEST = 10


class Host:
    """A connection to the lab's libvirt that survives the end of libvirtd."""

    def __init__(self) -> None:
        assert "HYPERVISOR_LAB" in os.environ, (
            "these tests need a libvirt of their own: run `make test`, or python -m hypervisor.lab -- pytest"
        )
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        self._connection: libvirt.virConnect | None = None

    @property
    def connection(self) -> libvirt.virConnect:
        """An open connection."""
        if self._connection is not None and not _works(self._connection):
            self._connection = None
        if self._connection is None:
            self._connection = libvirt.open(URI)
        return self._connection

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def kill_libvirtd(self) -> None:
        """Kill libvirtd, and wait until the lab's next one answers."""
        pid = libvirtd()
        os.kill(pid, signal.SIGKILL)
        until(lambda: libvirtd() != pid, 20, "the lab starts libvirtd again")
        until(self._answers, 30, "libvirtd answers again")

    def _answers(self) -> bool:
        try:
            return bool(self.connection.getLibVersion())
        except libvirt.libvirtError:
            return False


def _works(connection: libvirt.virConnect) -> bool:
    try:
        connection.getLibVersion()
    except libvirt.libvirtError:
        return False
    return True


def libvirtd() -> int:
    """The process id of libvirtd; 0 when there is none at the moment."""
    try:
        return int(_PID_FILE.read_text())
    except (FileNotFoundError, ValueError):
        return 0


@contextmanager
def suspended_libvirtd() -> Iterator[None]:
    """Let libvirtd do nothing while the block runs: whatever is asked of it waits."""
    pid = libvirtd()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def preferred(*processes: int) -> Iterator[None]:
    """Let these processes, and the DHCP servers, come before all others while the block runs: what is
    measured of them is not to depend on what else the machine does."""
    every = (one for one in Path("/proc").iterdir() if one.name.isdigit())
    servers = [int(one.name) for one in every if _named(one, "dnsmasq")]
    threads = [int(one.name) for pid in (*processes, *servers) for one in Path(f"/proc/{pid}/task").iterdir()]
    _schedule(threads, os.SCHED_RR, 1)
    try:
        yield
    finally:
        _schedule(threads, os.SCHED_OTHER, 0)


def hold_back(*processes: int) -> None:
    """Let these guests leave others their part of the processors, whether the kernel shares those out among
    threads or among sessions (sched(7), the autogroup feature)."""
    for process in processes:
        for thread in Path(f"/proc/{process}/task").iterdir():
            # it may have ended
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), _MODEST)
        group = Path(f"/proc/{process}/autogroup")
        if group.exists():
            group.write_text(str(_MODEST))


def _named(process: Path, name: str) -> bool:
    try:
        return (process / "comm").read_text().strip() == name
    except (FileNotFoundError, ProcessLookupError):
        return False


def _schedule(threads: Iterable[int], policy: int, priority: int) -> None:
    for thread in threads:
        # it may have ended
        with suppress(ProcessLookupError):
            os.sched_setscheduler(thread, policy, os.sched_param(priority))


class Door:
    """A way to libvirt that can be closed, for one service alone."""

    def __init__(self, folder: Path) -> None:
        self._link = folder / "libvirt-sock"
        self.open()

    @property
    def uri(self) -> str:
        """The libvirt URI of a service that goes through this door."""
        return f"qemu+unix:///system?socket={self._link}"

    def open(self) -> None:
        """Let the service find libvirt."""
        self._link.symlink_to(_SOCKET)

    def close(self) -> None:
        """Let it find none from its next connection on."""
        self._link.unlink()
