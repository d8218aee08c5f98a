"""Taking an accepted job back: as long as nothing of it has begun, or as long as a migration only copies."""

from sqlalchemy import case, delete, select, update
from sqlalchemy.orm import Session

from api.operations.run import CANCEL
from api.operations.story import cancelled_after
from api.store.models import Claim, Disk, Iface, Ip, Job, Operation, Vlan, Vm, now

_NOT_BEGUN = ("BILL", "WAIT")
_UNDOABLE = ("hosting_migration_vm", "hosting_migration_disk")


class NotCancellable(Exception):
    """The job cannot be taken back; the text says why."""


def cancel(session: Session, job: Job) -> None:
    """Take `job` back: its operations become CANCEL, its claims go, what it was to create vanishes.

    The disks and interfaces that a VM to be created would have used stay, free. A migration that has begun is
    told, and becomes CANCEL when it has undone what it did: let it see that (`Jobs.tell_after`).

    Raises `NotCancellable` when an operation of the job has begun or ended, a migration has been finalized,
    or a network that would vanish has interfaces.
    """
    # the row is locked and read again: the queue may be about to begin the job
    session.refresh(job, with_for_update=True)
    begun = next((one for one in job.operations if one.step not in _NOT_BEGUN), None)
    if job.workflow in _UNDOABLE and job.started and (begun is None or begun.step == "RUN"):
        if job.told is not None:
            raise NotCancellable("it is about to end")
        job.told = CANCEL
        return
    if job.started or begun is not None:
        raise NotCancellable(f"it is in step {begun.step}" if begun else "it is being started")
    for operation in job.operations:
        operation.step = "CANCEL"
        operation.date_updated = now()
    cancelled_after(session, job.operations)
    _remove_interfaces(session, _created(job, "iface_create", "iface_id"))
    _remove_vms(session, _created(job, "vm_create", "vm_id"))
    _remove_disks(session, _created(job, "disk_create", "disk_id"))
    _remove_vlans(session, _created(job, "vlan_create", "vlan_id"))
    session.execute(delete(Claim).where(Claim.job_id == job.id))
    session.expire(job, ["claims"])


def _created(job: Job, kind: str, key: str) -> list[int]:
    """The ids of the objects that the job's operations of the type `kind` were to create."""
    ids = (_object_id(operation, key) for operation in job.operations if operation.type == kind)
    return [one for one in ids if one is not None]


def _object_id(operation: Operation, key: str) -> int | None:
    identifier = operation.params.get(key)
    return identifier if isinstance(identifier, int) else None


def _remove_interfaces(session: Session, ids: list[int]) -> None:
    gone = select(Iface.id).where(Iface.id.in_(ids), Iface.state == "being_created")
    session.execute(delete(Ip).where(Ip.iface_id.in_(gone)))
    session.execute(delete(Iface).where(Iface.id.in_(gone)))


def _remove_vms(session: Session, ids: list[int]) -> None:
    gone = session.scalars(select(Vm.id).where(Vm.id.in_(ids), Vm.state == "being_created")).all()
    free = case((Iface.state == "used", "free"), else_=Iface.state)
    session.execute(
        update(Disk).where(Disk.vm_id.in_(gone)).values(vm_id=None, position=None, access="read/write")
    )
    session.execute(update(Iface).where(Iface.vm_id.in_(gone)).values(vm_id=None, num=None, state=free))
    session.execute(delete(Vm).where(Vm.id.in_(gone)))


def _remove_disks(session: Session, ids: list[int]) -> None:
    session.execute(delete(Disk).where(Disk.id.in_(ids), Disk.state == "being_created"))


def _remove_vlans(session: Session, ids: list[int]) -> None:
    if session.scalar(select(Iface.id).where(Iface.vlan_id.in_(ids)).limit(1)) is not None:
        raise NotCancellable("network interfaces are already to be made in the network: delete them first")
    session.execute(delete(Vlan).where(Vlan.id.in_(ids), Vlan.state == "being_created"))
