"""Finding the objects that a caller names: somebody else's object is one that does not exist."""

from typing import Any, TypeVar

from sqlalchemy import Select, bindparam, or_, select
from sqlalchemy.orm import Session

from api.methods.call import Call, check_not_migrating
from api.methods.faults import Cause, Object, not_found, refuse
from api.operations.run import UNFINISHED
from api.store.models import Datacenter, Disk, Iface, Operation, SshKey, Vlan, Vm

T = TypeVar("T", Disk, Iface, SshKey, Vlan, Vm)

_SUBJECTS: dict[type, Object] = {
    Disk: Object.DISK,
    Iface: Object.IFACE,
    SshKey: Object.KEY,
    Vlan: Object.VLAN,
    Vm: Object.VM,
}

# put together once: nearly every call asks for one
_OWNED: dict[type, Select[Any]] = {
    model: select(model).where(model.id == bindparam("identifier"), model.account_id == bindparam("owner"))
    for model in (Disk, Iface, SshKey, Vlan, Vm)
}


def own(session: Session, call: Call, model: type[T], identifier: int) -> T:
    """The caller's object `identifier`; raises the NOTFOUND fault. A deleted VM is not there any more."""
    # asked for with its owner: how long that takes does not tell that it is somebody else's
    record: T | None = session.scalar(_OWNED[model], {"identifier": identifier, "owner": call.account.id})
    if record is None or getattr(record, "state", None) == "deleted":
        raise not_found(_SUBJECTS[model], identifier)
    return record


def source_disk(session: Session, call: Call, identifier: int) -> Disk:
    """A disk to create from: the caller's, or an image's. Raises the NOTFOUND fault."""
    visible = or_(Disk.account_id == call.account.id, Disk.account_id.is_(None))
    disk = session.scalar(select(Disk).where(Disk.id == identifier, visible))
    if disk is None:
        raise not_found(Object.DISK, identifier)
    return disk


def datacenter(session: Session, identifier: int) -> Datacenter:
    """The datacenter `identifier`; raises the NOTFOUND fault."""
    found = session.get(Datacenter, identifier)
    if found is None:
        raise not_found(Object.DATACENTER, identifier)
    return found


def is_closed(record: Datacenter) -> bool:
    """Whether nothing can be made in the datacenter, nor come to it."""
    return record.iaas_closed_for == "ALL"


def check_open(record: Datacenter, field: str = "datacenter_id") -> None:
    """Refuse a datacenter that is closed."""
    if is_closed(record):
        raise refuse(Object.DATACENTER, Cause.STATE, f"datacenter {record.dc_code} is closed", field)


def open_datacenter(session: Session, identifier: int) -> Datacenter:
    """A datacenter in which objects may be created; raises a fault when it is unknown or closed."""
    found = datacenter(session, identifier)
    check_open(found)
    return found


def check_free(record: Disk | Iface) -> None:
    """Refuse a disk or an interface that a VM has."""
    if record.vm_id is not None:
        kind = record.__tablename__
        raise refuse(
            _SUBJECTS[type(record)],
            Cause.ATTACHED,
            f"{kind}#{record.id} is attached to vm#{record.vm_id}: detach it first",
            f"{kind}_id",
        )


def is_leaving(session: Session, disk: Disk) -> bool:
    """Whether the deletion of the disk is queued or under way."""
    deletion = select(Operation.id).where(
        Operation.disk_id == disk.id, Operation.type == "disk_delete", Operation.step.in_(UNFINISHED)
    )
    return session.scalar(deletion.limit(1)) is not None


# what state an accepted operation leaves a VM in
_LEADS_TO = {
    "vm_create": "running",
    "vm_start": "running",
    "vm_reboot": "running",
    "vm_stop": "halted",
    "vm_delete": "deleted",
}


def coming_state(session: Session, vm: Vm) -> str:
    """The state of the VM once everything that is queued for it is done; a locked one stays locked.

    Raises the PENDING fault for one that is being migrated: that ends when somebody says so.
    """
    if vm.is_migrating:
        check_not_migrating(session, [f"vm:{vm.id}"])
    if vm.state == "locked":
        return "locked"
    pending = session.scalar(
        select(Operation.type)
        .where(Operation.vm_id == vm.id, Operation.step.in_(UNFINISHED), Operation.type.in_(_LEADS_TO))
        .order_by(Operation.id.desc())
        .limit(1)
    )
    return vm.state if pending is None else _LEADS_TO[pending]
