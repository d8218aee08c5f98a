"""A running domain moved from one libvirt to another, on another host, in two phases.

`begin` copies the disks while the guest runs and then keeps the copies in step; `Transfer.finalise` sends the
memory and switches over, which the guest notices as a pause of some tenths of a second. libvirt has no such
waiting point: one disk's mirror is paused shortly before its end, so that libvirt goes on waiting for it.

What the caller does: make the volumes on the target (empty ones for the disks that are copied, whole copies
of the read-only ones), and remove the volumes that are no longer used, on the side that `settle` names.

A guest that powers off during the copy meets a fault of libvirt (seen with 9.0): the source's libvirtd may
go on waiting for it, which `MachineStopped` then says, or crash; its guests run on in both cases. Restart a
libvirtd that waits before the domain is started again: a second move of it would crash it.

While a move runs, libvirt refuses to change the domain: cancel first. Each held move occupies one of the
source libvirtd's workers (`max_workers`, 20 by default): keep to a few at a time. Disks and memory travel
unencrypted to TCP ports 49152 to 49215 of the target, which must be open for the source and no one else.
"""

from hypervisor.domain.migration.check import check
from hypervisor.domain.migration.move import (
    MachineStopped,
    MigrationFailed,
    Move,
    NotHeld,
    Place,
    Progress,
)
from hypervisor.domain.migration.settle import settle
from hypervisor.domain.migration.transfer import Transfer, begin

__all__ = [
    "MachineStopped",
    "MigrationFailed",
    "Move",
    "NotHeld",
    "Place",
    "Progress",
    "Transfer",
    "begin",
    "check",
    "settle",
]
