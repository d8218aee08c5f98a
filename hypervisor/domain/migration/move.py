"""A move between hosts, as values."""

from dataclasses import dataclass
from enum import StrEnum

from hypervisor.domain.spec import DomainSpec
from hypervisor.errors import HypervisorError


class MigrationFailed(HypervisorError):
    """The domain was not moved; the text says why and what to do. `settle` tells where it is."""


class MachineStopped(MigrationFailed):
    """The guest powered off, or was cut off, before it was moved."""


class NotHeld(MigrationFailed):
    """The copy was complete before it could be held, as on a busy host: a slower `approach` gives time."""


class Place(StrEnum):
    """On which host a domain is."""

    SOURCE = "source"
    TARGET = "target"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class Move:
    """What is to be moved, and as what.

    `target_spec` is the domain as it shall be on the target: the same devices, with the paths and networks of
    there; its memory and cores count from its next start. `address` is the target's, as the source host
    reaches it: an IP address or a host name. The disks that are not read-only are copied. `bandwidth` limits
    the copy, in MiB/s; 0 is no limit.
    """

    target_spec: DomainSpec
    address: str
    bandwidth: int = 0

    @property
    def uuid(self) -> str:
        """The domain's UUID, the same on both hosts."""
        return self.target_spec.uuid

    @property
    def copied(self) -> list[str]:
        """The places (``vda``) of the disks that are copied."""
        return [disk.target for disk in self.target_spec.disks if not disk.readonly]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the copy is, in bytes; `total` grows while the guest writes, and is 0 at first.

    `ready`: the copies are in step, and `finalise` is waited for.
    """

    copied: int = 0
    total: int = 0
    ready: bool = False
