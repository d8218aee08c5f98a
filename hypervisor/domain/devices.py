"""The disks of a running domain: copied and grown."""

from pathlib import Path

import libvirt

from hypervisor.domain.copy import copy_disk
from hypervisor.domain.jobs import target_of
from hypervisor.domain.power import lookup
from hypervisor.libvirt_errors import explained

__all__ = ["copy_disk", "resize_disk"]


def resize_disk(connection: libvirt.virConnect, uuid: str, path: Path, size: int) -> None:
    """Grow the disk at `path` of a running domain to `size` MiB; the guest sees it at once.

    Does nothing when it is that large. Raises `LibvirtError`, also while the disk is being copied.
    """
    domain = lookup(connection, uuid)
    with explained(f"resize of {path.name}"):
        target = target_of(domain, path)
        if domain.blockInfo(target)[0] < size * 2**20:
            domain.blockResize(target, size * 2**20, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
