"""Mirrors begun, watched, and given up."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import libvirt
from lxml import etree

from hypervisor.domain import jobs, power, standstill
from hypervisor.domain.mirror.view import (
    MachineStopped,
    Mirror,
    is_live,
    look,
    lost,
    present,
    running,
)
from hypervisor.domain.xml import parse
from hypervisor.libvirt_errors import NoDomain, explained

_PATIENCE = 60.0  # how long somebody else's job on a disk is waited for, in seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """Of all mirrors together, in bytes. `total` may grow with what the guest writes; `ready` when every copy
    is complete and kept in step."""

    copied: int
    total: int
    ready: bool


def begin(connection: libvirt.virConnect, uuid: str, mirrors: Sequence[Mirror], bandwidth: int = 0) -> None:
    """Begin to mirror the disks that are neither mirrored nor moved yet.

    `bandwidth` in bytes/s is shared out equally among `mirrors`, 0 is unlimited; what the guest writes is not
    held to it, nor is a mirror that runs already. What an earlier attempt left on a disk is ended, anybody
    else's job waited for, up to a minute.

    Raises `MachineStopped`, and `HypervisorError` when a disk cannot be mirrored; others may be by then.
    """
    with running(connection, uuid, "begin of the mirrors") as domain:
        for mirror in mirrors:
            (disk,) = look(domain, [mirror])
            if disk.file is not None and not disk.moved and not disk.mirrored:
                jobs.clear(connection, domain, disk.target, mirror.copy, _PATIENCE)
                # the job that ended may have been a switch
                (disk,) = look(domain, [mirror])
            if not disk.moved and not disk.mirrored:
                jobs.start(domain, disk.target, mirror.copy, mirror.format, -(-bandwidth // len(mirrors)))


def progress(connection: libvirt.virConnect, uuid: str, mirrors: Sequence[Mirror]) -> Progress:
    """How far the mirrors are; a disk that has moved counts as copied.

    Raises `MachineStopped`, and `MirrorLost` when a disk has neither moved nor a mirror.
    """
    copied = total = 0
    with running(connection, uuid, "progress of the mirrors") as domain:
        disks = look(domain, mirrors)
        for disk in disks:
            if disk.moved:
                size = int(domain.blockInfo(disk.target)[0])
                copied, total = copied + size, total + size
            elif disk.mirrored or disk.state == "pivot":
                job = domain.blockJobInfo(disk.target)
                copied, total = copied + int(job.get("cur", 0)), total + int(job.get("end", 0))
            else:
                raise lost(connection, domain, disk)
    return Progress(copied, total, all(disk.moved or disk.state in ("yes", "pivot") for disk in disks))


def abandon(connection: libvirt.virConnect, uuid: str, mirrors: Sequence[Mirror]) -> None:
    """End the mirrors without a switch; a domain that is off or gone has none. A disk that has moved stays
    where it is, and a job that writes elsewhere goes on. A machine that stands still because a switch was cut
    short goes on.

    Raises `HypervisorError` when a mirror does not end within a minute.
    """
    with contextlib.suppress(MachineStopped), running(connection, uuid, "end of the mirrors") as domain:
        standstill.let_go(domain)
        for disk in present(domain, mirrors):
            if not disk.moved:
                jobs.abandon(domain, disk.target, disk.mirror.copy)


def places(connection: libvirt.virConnect, uuid: str) -> dict[str, tuple[Path | None, Path | None]]:
    """Where the domain's disks are, by device alias: now, and at its next start.

    None for a disk that it does not have there; empty for a domain that does not exist.
    """
    try:
        domain = power.lookup(connection, uuid)
        with explained(f"disks of domain {uuid}"):
            xml = domain.XMLDesc()
            defined = _paths(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    except NoDomain:
        return {}
    live = _paths(xml) if is_live(etree.fromstring(xml.encode())) else {}
    return {alias: (live.get(alias), defined.get(alias)) for alias in {**defined, **live}}


def _paths(xml: str) -> dict[str, Path]:
    return {disk.alias: disk.path for disk in parse(xml).disks}
