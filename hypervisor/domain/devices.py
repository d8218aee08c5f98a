"""The disks of a running domain: copied and grown."""

import queue
from pathlib import Path
from typing import Any

import libvirt
from lxml import etree
from lxml.builder import E

from hypervisor.domain.power import lookup
from hypervisor.domain.xml import parse
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import explained

_ENDED = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED: "failed",
    libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED: "was cancelled",
}


def _target(domain: libvirt.virDomain, path: Path) -> str:
    for disk in parse(domain.XMLDesc()).disks:
        if disk.path == path:
            return disk.target
    raise HypervisorError(f"domain {domain.name()} does not use {path}")


def copy_disk(connection: libvirt.virConnect, uuid: str, source: Path, copy: Path) -> None:
    """Copy the disk at `source` of a running domain into the existing qcow2 volume `copy`, as it is at one
    moment.

    The guest goes on writing; the copy ends at the moment when it is complete.
    """
    domain = lookup(connection, uuid)
    with explained(f"copy of {source.name}"):
        target = _target(domain, source)
        statuses: queue.SimpleQueue[int] = queue.SimpleQueue()

        def report(
            _c: Any, about: libvirt.virDomain, disk: str, _kind: int, status: int, _opaque: Any
        ) -> None:
            if about.UUIDString() == uuid and disk == target:
                statuses.put(status)

        registered = connection.domainEventRegisterAny(
            domain, libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, report, None
        )
        try:
            destination = E.disk(E.source(file=str(copy)), E.driver(type="qcow2"), type="file")
            domain.blockCopy(
                target,
                etree.tostring(destination, encoding="unicode"),
                None,
                libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB,
            )
            status = statuses.get()
            if status != libvirt.VIR_DOMAIN_BLOCK_JOB_READY:
                raise HypervisorError(f"copy of {source.name} {_ENDED.get(status, 'ended early')}")
            domain.blockJobAbort(target)
        finally:
            connection.domainEventDeregisterAny(registered)


def resize_disk(connection: libvirt.virConnect, uuid: str, path: Path, size: int) -> None:
    """Grow the disk at `path` of a running domain to `size` MiB; the guest sees it at once."""
    domain = lookup(connection, uuid)
    with explained(f"resize of {path.name}"):
        domain.blockResize(_target(domain, path), size * 2**20, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
