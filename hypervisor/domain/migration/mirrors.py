"""The mirrors of a domain's disks while libvirt moves it, steered through QEMU's monitor.

libvirt has no call for it. Source: https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html (block-job-*).
"""

from dataclasses import dataclass

import libvirt

from hypervisor.domain import monitor


@dataclass(frozen=True, slots=True)
class Mirror:
    """The mirror of one disk; `copied` and `total` are bytes, `speed` is bytes/s, 0 for no limit."""

    name: str
    copied: int
    total: int
    speed: int
    ready: bool
    paused: bool

    @property
    def left(self) -> int:
        """How many bytes are still to be copied."""
        return self.total - self.copied


def mirrors(domain: libvirt.virDomain) -> list[Mirror]:
    """The mirrors that have begun to copy. Raises `LibvirtError` or `Unavailable`, as all here."""
    found = monitor.ask(domain, "query-block-jobs")
    return [
        Mirror(one["device"], one["offset"], one["len"], one["speed"], one["ready"], one["paused"])
        for one in found
        if one["type"] == "mirror" and one["len"] > 0
    ]


def pause(domain: libvirt.virDomain, mirror: Mirror) -> None:
    """Let the mirror stand still; what the guest writes is mirrored nevertheless."""
    monitor.ask(domain, "block-job-pause", device=mirror.name)


def resume(domain: libvirt.virDomain, mirror: Mirror) -> None:
    """Let the mirror go on."""
    monitor.ask(domain, "block-job-resume", device=mirror.name)


def limit(domain: libvirt.virDomain, mirror: Mirror, speed: int) -> None:
    """Give the mirror so many bytes/s; 0 is no limit."""
    if mirror.speed != speed:
        monitor.ask(domain, "block-job-set-speed", device=mirror.name, speed=speed)
