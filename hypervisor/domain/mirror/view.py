"""The mirrors of a domain's disks, as its live XML has them."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import libvirt
from lxml import etree

from hypervisor.domain import power
from hypervisor.domain.live import tree_of
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import LibvirtError, NoDomain, explained
from hypervisor.storage import pool

# what libvirt says when it cannot read from QEMU, or QEMU has closed its monitor; others say the same
_HUNG_UP = (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_INTERNAL_ERROR)
# how long libvirt may take then to say that the domain is off, and how often it is asked, in seconds
_HANGING_UP, _LOOK_HUNG_UP = 3.0, 0.05

# in seconds: how long a job may take to end, and how often it is looked at, while a machine may stand still
_END, _LOOK = 30.0, 0.001


@dataclass(frozen=True, slots=True)
class Mirror:
    """A disk on its way: the volume that the domain uses now, and an existing volume of the same capacity, in
    `format`. What that held is overwritten; the copy depends on no other volume."""

    source: Path
    copy: Path
    format: str = "qcow2"


class MachineStopped(HypervisorError):
    """The domain is off or gone; its mirrors died with it."""


class MirrorLost(HypervisorError):
    """A mirror ended that should go on."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of a running domain: its target, the file that it uses, the one that its job writes to (None
    without a job, empty for one that is ending), and the job's state."""

    mirror: Mirror
    target: str
    path: Path
    file: str | None
    state: str

    @property
    def moved(self) -> bool:
        """Whether the copy is the disk now."""
        return self.path == self.mirror.copy

    @property
    def ending(self) -> bool:
        """Whether its job is about to end, as a switch or not."""
        return not self.moved and self.file is not None and (not self.file or self.state in _ENDS)

    @property
    def mirrored(self) -> bool:
        """Whether the disk is being copied, or its copy kept in step."""
        return not self.moved and self.file == str(self.mirror.copy) and self.state not in _ENDS


_ENDS = ("pivot", "abort")


def look(domain: libvirt.virDomain, mirrors: Sequence[Mirror]) -> list[Disk]:
    """The disks of `mirrors`; raises `MachineStopped`, and `HypervisorError` for one that the domain does not
    have."""
    root = _live(domain)
    disks = []
    for mirror in mirrors:
        disk = _find(root, mirror)
        if disk is None:
            raise HypervisorError(
                f"domain {domain.name()} uses neither {mirror.source} nor {mirror.copy}: "
                "was the disk detached?"
            )
        disks.append(disk)
    return disks


def present(domain: libvirt.virDomain, mirrors: Sequence[Mirror]) -> list[Disk]:
    """The disks of `mirrors` that the domain has; raises `MachineStopped`."""
    root = _live(domain)
    return [disk for mirror in mirrors if (disk := _find(root, mirror)) is not None]


def settled(domain: libvirt.virDomain, mirrors: Sequence[Mirror]) -> list[Disk]:
    """As `look`, when no job is ending any more, or 30 seconds have passed."""
    deadline = time.monotonic() + _END
    while True:
        disks = look(domain, mirrors)
        if not any(disk.ending for disk in disks) or time.monotonic() > deadline:
            return disks
        # a report of the end may come before libvirt has written it down, or be lost
        time.sleep(_LOOK)


def _live(domain: libvirt.virDomain) -> etree._Element:
    root = tree_of(domain)
    if not is_live(root):
        raise stopped(domain.name())
    return root


def is_live(root: etree._Element) -> bool:
    """Whether the XML is that of a running machine, not of what is started next."""
    return root.get("id") is not None


def _find(root: etree._Element, mirror: Mirror) -> Disk | None:
    for element in root.iterfind("devices/disk"):
        source, target, job = element.find("source"), element.find("target"), element.find("mirror")
        path = Path("" if source is None else source.get("file", ""))
        if target is not None and path in (mirror.source, mirror.copy):
            file = None if job is None else job.get("file", "")
            state = "" if job is None else job.get("ready", "")
            return Disk(mirror, target.get("dev", ""), path, file, state)
    return None


def stopped(name: str) -> MachineStopped:
    """The error for a domain that is off or gone."""
    return MachineStopped(f"domain {name} is not running: its disks are not mirrored any more")


@contextlib.contextmanager
def running(connection: libvirt.virConnect, uuid: str, attempt: str) -> Iterator[libvirt.virDomain]:
    """The domain; what fails in the block because it stopped is a `MachineStopped`."""
    try:
        domain = power.lookup(connection, uuid)
        with explained(f"{attempt} of domain {domain.name()}"):
            yield domain
    except NoDomain as error:
        raise stopped(uuid) from error
    except LibvirtError as error:
        if error.code in _HUNG_UP:
            _check_stays_on(connection, uuid, error)
        if power.state(connection, uuid).powered:
            raise
        raise stopped(uuid) from error
    except MirrorLost as error:
        _check_stays_on(connection, uuid, error)
        raise


def _check_stays_on(connection: libvirt.virConnect, uuid: str, error: HypervisorError) -> None:
    """Raise `MachineStopped` when the domain is off soon: its QEMU ends the mirrors and hangs up before."""
    deadline = time.monotonic() + _HANGING_UP
    while power.state(connection, uuid).powered:
        if time.monotonic() >= deadline:
            return
        time.sleep(_LOOK_HUNG_UP)
    raise stopped(uuid) from error


def lost(connection: libvirt.virConnect, domain: libvirt.virDomain, disk: Disk) -> MirrorLost:
    """The error for a disk without its mirror, with the likely cause and what to do."""
    what = f"the mirror of {disk.target} of domain {domain.name()} ended before the switch"
    if disk.file:
        return MirrorLost(
            f"{what}, and somebody else copies the disk to {disk.file}: wait for that, begin anew"
        )
    return MirrorLost(f"{what}: {_cause(connection, domain.name(), disk.mirror.copy)}")


def _cause(connection: libvirt.virConnect, name: str, copy: Path) -> str:
    try:
        with explained(f"volume {copy}"):
            volume = connection.storageVolLookupByPath(str(copy))
            place = volume.storagePoolLookupByVolume().name()
            # what the volume may still need; a qcow2 volume is a little larger than what it holds
            _, capacity, allocation = volume.info()
    except LibvirtError as error:
        return f"its copy is out of reach ({error}): start its storage pool, make the volume anew, begin anew"
    room = pool.room(connection, place)
    if not room.active:
        return f"storage pool {place} is not active: start it, begin anew"
    needed = max(0, capacity - allocation) // 2**20
    if room.free <= needed:
        return (
            f"storage pool {place} has {room.free} MiB left and the copy may need {needed} more: "
            "free space there, begin anew"
        )
    return f"somebody ended it, or QEMU did (see the log of {name} in /var/log/libvirt/qemu): begin anew"
