"""``hosting.vm.disk_attach``, ``disk_detach``, ``disk_rollback``, ``iface_attach`` and ``iface_detach``."""

from sqlalchemy.orm import Session

from api.methods import operation, quota
from api.methods.call import Call, Struct
from api.methods.disk import snapshot_of
from api.methods.faults import Cause, Object, refuse
from api.methods.ids import DiskId, IfaceId, SnapshotId, VmId
from api.methods.lookup import coming_state, is_leaving, own
from api.methods.table import method
from api.methods.vm.parameters import VMDiskAttachOptions
from api.operations.blueprint import MAX_POSITION
from api.operations.disk import volume_name
from api.operations.jobs import Planned
from api.operations.quota import coming_size
from api.store.models import Disk, Iface, Vm

_ACCESS = ("read", "read/write")
_USABLE = ("running", "halted", "paused")


@method("hosting.vm.disk_attach", "struct")
def disk_attach(
    call: Call, vm_id: VmId, disk_id: DiskId, options: VMDiskAttachOptions | None = None
) -> Struct:
    """Attach a disk to a virtual machine; at `position` 0 it swaps with the disk that is there.

    A running guest sees it at once. Returns a disk_attach operation.
    """
    options = options or VMDiskAttachOptions()
    with call.store.writing() as session:
        vm, disk = own(session, call, Vm, vm_id), own(session, call, Disk, disk_id)
        _check_usable(session, vm)
        if disk.vm_id is not None:
            raise refuse(
                Object.DISK, Cause.ATTACHED, f"disk#{disk.id} is attached to vm#{disk.vm_id}", "disk_id"
            )
        if disk.datacenter_id != vm.datacenter_id:
            raise refuse(
                Object.DISK,
                Cause.DATACENTER,
                f"disk#{disk.id} is not in the datacenter of vm#{vm.id}",
                "disk_id",
            )
        if disk.type == "snapshot":
            raise refuse(
                Object.SNAPSHOT,
                Cause.INVALID,
                f"disk#{disk.id} is a snapshot: create a disk from it",
                "disk_id",
            )
        if options.access not in _ACCESS:
            raise refuse(Object.STRING, Cause.BADPARAMETER, "access: it is read or read/write", "access")
        _check_position(vm, options.position)
        planned = Planned("disk_attach", vm_id=vm.id, disk_id=disk.id)
        return operation.accept(session, call, planned, position=options.position, access=options.access)


@method("hosting.vm.disk_detach", "struct")
def disk_detach(call: Call, vm_id: VmId, disk_id: DiskId) -> Struct:
    """Detach a disk from a virtual machine; the system disk (position 0) only while the VM is halted.

    The operation is done when the guest has let go of the disk. Returns a disk_detach operation.
    """
    with call.store.writing() as session:
        vm, disk = own(session, call, Vm, vm_id), own(session, call, Disk, disk_id)
        if disk.vm_id != vm.id:
            raise refuse(
                Object.DISK, Cause.NOT_ATTACHED, f"disk#{disk.id} is not attached to vm#{vm.id}", "disk_id"
            )
        state = _check_usable(session, vm)
        if disk.position == 0 and state != "halted":
            raise refuse(
                Object.DISK,
                Cause.ATTACHED_RUNNING,
                f"disk#{disk.id} is the system disk of vm#{vm.id}, which is {state}: stop it first",
                "disk_id",
            )
        return operation.accept(session, call, Planned("disk_detach", vm_id=vm.id, disk_id=disk.id))


@method("hosting.vm.iface_attach", "struct")
def iface_attach(call: Call, vm_id: VmId, iface_id: IfaceId) -> Struct:
    """Attach a network interface to a virtual machine; its bandwidth stays. Returns an iface_attach
    operation."""
    with call.store.writing() as session:
        vm, iface = own(session, call, Vm, vm_id), own(session, call, Iface, iface_id)
        _check_usable(session, vm)
        if iface.vm_id is not None:
            raise refuse(
                Object.IFACE, Cause.ATTACHED, f"iface#{iface.id} is attached to vm#{iface.vm_id}", "iface_id"
            )
        if iface.datacenter_id != vm.datacenter_id:
            raise refuse(
                Object.IFACE,
                Cause.DATACENTER,
                f"iface#{iface.id} is not in the datacenter of vm#{vm.id}",
                "iface_id",
            )
        return operation.accept(session, call, Planned("iface_attach", vm_id=vm.id, iface_id=iface.id))


@method("hosting.vm.iface_detach", "struct")
def iface_detach(call: Call, vm_id: VmId, iface_id: IfaceId) -> Struct:
    """Detach a network interface from a virtual machine, be it the last one. Returns an iface_detach
    operation."""
    with call.store.writing() as session:
        vm, iface = own(session, call, Vm, vm_id), own(session, call, Iface, iface_id)
        if iface.vm_id != vm.id:
            raise refuse(
                Object.IFACE,
                Cause.NOT_ATTACHED,
                f"iface#{iface.id} is not attached to vm#{vm.id}",
                "iface_id",
            )
        _check_usable(session, vm)
        return operation.accept(session, call, Planned("iface_detach", vm_id=vm.id, iface_id=iface.id))


@method("hosting.vm.disk_rollback", "array")
def disk_rollback(call: Call, snapshot_id: SnapshotId) -> list[Struct]:
    """Put a disk back to what its snapshot holds, by a new disk that takes the old one's place.

    Returns the operations: vm_stop and disk_detach, disk_create, disk_attach and vm_start, disk_delete;
    those about the VM only when the disk is attached, stop and start only when the VM runs.
    """
    with call.store.writing() as session:
        snapshot, old = snapshot_of(session, call, snapshot_id)
        if is_leaving(session, old):
            raise refuse(
                Object.DISK,
                Cause.PENDING,
                f"disk#{old.id} is about to be deleted: wait for that",
                "snapshot_id",
            )
        vm = None if old.vm_id is None else own(session, call, Vm, old.vm_id)
        quota.check_growth(session, call, old, disk=coming_size(session, snapshot))
        running = vm is not None and _check_usable(session, vm) != "halted"
        new = Disk(
            account_id=old.account_id,
            datacenter_id=old.datacenter_id,
            name=old.name,
            size=snapshot.size,
            label=old.label,
            source_id=snapshot.id,
            kernel_version=old.kernel_version,
            kernel_cmdline=old.kernel_cmdline,
            snapshot_profile_id=old.snapshot_profile_id,
            volume="",
        )
        session.add(new)
        session.flush()
        new.volume = volume_name(new.id)
        vm_id = None if vm is None else vm.id
        planned = [Planned("disk_create", disk_id=new.id, params={"src_disk_id": snapshot.id})]
        claims = [f"disk:{old.id}", f"disk:{new.id}", f"disk:{snapshot.id}"]
        if vm_id is not None:
            claims.append(f"vm:{vm_id}")
            planned.insert(0, Planned("disk_detach", vm_id=vm_id, disk_id=old.id))
            planned.append(Planned("disk_attach", vm_id=vm_id, disk_id=new.id))
        if running:
            planned.insert(0, Planned("vm_stop", vm_id=vm_id, eta=10))
            planned.append(Planned("vm_start", vm_id=vm_id, eta=2))
        planned.append(Planned("disk_delete", disk_id=old.id))
        arguments = {
            "vm_id": vm_id,
            "running": running,
            "old_id": old.id,
            "new_id": new.id,
            "position": old.position,
            "access": old.access,
        }
        return [
            operation.show(one) for one in call.submit(session, "disk_rollback", arguments, planned, claims)
        ]


def _check_usable(session: Session, vm: Vm) -> str:
    state = coming_state(session, vm)
    if state not in _USABLE:
        raise refuse(Object.VM, Cause.STATE, f"vm#{vm.id} is {state}: its devices cannot change", "vm_id")
    return state


def _check_position(vm: Vm, position: int | None) -> None:
    # also one that swaps needs a place for the other
    full = len(vm.disks) > MAX_POSITION
    if position is None and not full:
        return
    if position is None or full or not 0 <= position <= MAX_POSITION:
        raise refuse(
            Object.DISK,
            Cause.POSITION,
            f"position: it is 0 to {MAX_POSITION}, and one of them free",
            "position",
        )
    holder = next((disk for disk in vm.disks if disk.position == position), None)
    if holder is not None and position != 0:
        raise refuse(
            Object.DISK, Cause.POSITION, f"position: {position} is taken by disk#{holder.id}", "position"
        )
