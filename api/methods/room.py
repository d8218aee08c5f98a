"""Where something can be migrated to: which datacenters are open, run, and have space for it."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.methods.call import Call
from api.methods.faults import Cause, Object, refuse
from api.methods.lookup import datacenter, is_closed
from api.operations.jobs import MIGRATION
from api.operations.run import UNFINISHED
from api.store.models import Datacenter, Disk, Iface, Operation


def others(session: Session, datacenter_id: int) -> Sequence[Datacenter]:
    """The datacenters but one, in the order in which they are chosen."""
    return session.scalars(
        select(Datacenter).where(Datacenter.id != datacenter_id).order_by(Datacenter.id)
    ).all()


def other(session: Session, datacenter_id: int, wanted: int, field: str) -> Datacenter:
    """The datacenter `wanted`; raises a fault when there is none, or when it is the one at hand."""
    found = datacenter(session, wanted)
    if found.id == datacenter_id:
        raise refuse(
            Object.DATACENTER, Cause.VALUE, f"{field}: it is in datacenter {found.dc_code} already", field
        )
    return found


def needed(disks: Sequence[Disk]) -> int:
    """The space that disks and their snapshots may need, in MiB: chains are flattened."""
    return sum(disk.size + sum(snapshot.size for snapshot in disk.snapshots) for disk in disks)


def obstacle(session: Session, call: Call, target: Datacenter, size: int) -> str | None:
    """Why nothing of `size` MiB can be migrated to the datacenter now; None when it can."""
    if is_closed(target):
        return f"datacenter {target.dc_code} is closed"
    room = call.services.room(target)
    if not room.active:
        return f"the storage pool of datacenter {target.dc_code} does not run, or its libvirt does not answer"
    free = room.free - _promised(session, target)
    if size > free:
        return f"datacenter {target.dc_code} has {max(0, free)} MiB left, and {size} may be needed"
    return None


def _promised(session: Session, target: Datacenter) -> int:
    """The space, in MiB, that other migrations on their way to the datacenter may need."""
    coming = session.scalars(
        select(Operation).where(Operation.type.startswith(MIGRATION), Operation.step.in_(UNFINISHED))
    )
    return sum(int(one.params.get("size", 0)) for one in coming if one.params.get("to_dc_id") == target.id)


def unmovable(iface: Iface) -> str | None:
    """Why the interface cannot be migrated; None when it can."""
    if iface.vlan_id is not None:
        return f"iface#{iface.id} is on vlan#{iface.vlan_id}, which is of its datacenter"
    return None
