"""``hosting.vm.can_migrate`` and ``migrate``."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.methods import operation, room
from api.methods.call import Call, Struct
from api.methods.faults import Cause, Object, refuse
from api.methods.ids import DatacenterId, VmId
from api.methods.lookup import is_closed, own
from api.methods.parameters import Parameters
from api.methods.table import method
from api.operations.hosts import address_of, uri_of
from api.operations.jobs import Planned
from api.operations.migration.copying import WAIT_SYNC
from api.operations.run import FINALIZE, UNFINISHED
from api.store.models import Datacenter, Operation, Vm

_TYPE = "hosting_migration_vm"
_MOVABLE = ("running", "halted")


class VMMigrateOptions(Parameters):
    """Where to, when the datacenter that ``hosting.vm.can_migrate`` names first is not the one."""

    datacenter_id: DatacenterId | None = None


@method("hosting.vm.can_migrate", "struct", alias=False, changes=False)
def can_migrate(call: Call, vm_id: VmId) -> Struct:
    """Tell whether a virtual machine can be migrated, and to which datacenters.

    A dry run of hosting.vm.migrate tells why not.
    """
    with call.store.reading() as session:
        vm = own(session, call, Vm, vm_id)
        under_way = _under_way(session, vm)
        if under_way is not None and under_way.job.told is None:
            # it may be finalized
            target = session.get_one(Datacenter, under_way.params["to_dc_id"]).dc_code
            return {"can_migrate": True, "matched": [target], "can_migrate_to": [target]}
        if _objections(session, vm):
            return {"can_migrate": False, "matched": [], "can_migrate_to": []}
        size = room.needed(vm.disks)
        others = room.others(session, vm.datacenter_id)
        possible = [one.dc_code for one in others if _obstacle(session, call, vm, one, size) is None]
        # clients say of what suits and is not possible that it is not open yet
        matched = possible or [one.dc_code for one in others if is_closed(one)]
        return {"can_migrate": bool(possible), "matched": matched[:1], "can_migrate_to": possible}


@method("hosting.vm.migrate", "struct")
def migrate(
    call: Call, vm_id: VmId, finalize_migration: bool = False, options: VMMigrateOptions | None = None
) -> Struct:
    """Migrate a virtual machine to another datacenter, running or halted.

    First its disks are copied and kept in step, until the call is repeated with `finalize_migration`: then
    the virtual machine moves over, and its interfaces get new addresses. operation.cancel takes it back
    before. `options` may name the datacenter. Returns a hosting_migration_vm operation.
    """
    with call.store.writing() as session:
        vm = own(session, call, Vm, vm_id)
        options = options or VMMigrateOptions()
        under_way = _under_way(session, vm)
        if finalize_migration:
            return _finalize(session, call, vm, under_way, options)
        if under_way is not None:
            raise refuse(
                Object.VM,
                Cause.PENDING,
                f"vm#{vm.id} is being migrated: finalize that or cancel operation {under_way.id}",
                "vm_id",
            )
        target = _target(session, call, vm, options)
        way = {"from_dc_id": vm.datacenter_id, "to_dc_id": target.id}
        params = {**way, "inner_step": WAIT_SYNC, "size": room.needed(vm.disks)}
        disks = [one for disk in vm.disks for one in (disk, *disk.snapshots)]
        claims = [*(f"disk:{one.id}" for one in disks), *(f"iface:{one.id}" for one in vm.ifaces)]
        planned = Planned(_TYPE, vm_id=vm.id, eta=30, params=params)
        return operation.accept(session, call, planned, *claims, datacenter_id=target.id)


def _under_way(session: Session, vm: Vm) -> Operation | None:
    return session.scalar(
        select(Operation).where(
            Operation.vm_id == vm.id, Operation.type == _TYPE, Operation.step.in_(UNFINISHED)
        )
    )


def _finalize(
    session: Session, call: Call, vm: Vm, under_way: Operation | None, options: VMMigrateOptions
) -> Struct:
    if under_way is None:
        raise refuse(
            Object.VM,
            Cause.INVALID_PHASE,
            f"vm#{vm.id} is not being migrated: call without finalize_migration first",
            "finalize_migration",
        )
    if under_way.job.told is not None:
        raise refuse(
            Object.VM,
            Cause.INVALID_PHASE,
            f"the migration of vm#{vm.id} is about to end: wait for operation {under_way.id}",
            "finalize_migration",
        )
    if options.datacenter_id not in (None, under_way.params["to_dc_id"]):
        raise refuse(
            Object.VM,
            Cause.INVALID_PHASE,
            f"the migration of vm#{vm.id} goes to datacenter {under_way.params['to_dc_id']}",
            "datacenter_id",
        )
    call.check_only()
    under_way.job.told = FINALIZE
    call.services.jobs.tell_after(session, under_way.job_id)
    return operation.show(under_way)


def _target(session: Session, call: Call, vm: Vm, options: VMMigrateOptions) -> Datacenter:
    """The datacenter to migrate to; raises a fault with every reason when there is none."""
    reasons = _objections(session, vm)
    size = room.needed(vm.disks)
    if options.datacenter_id is None:
        wanted = list(room.others(session, vm.datacenter_id))
    else:
        wanted = [room.other(session, vm.datacenter_id, options.datacenter_id, "datacenter_id")]
    obstacles = [_obstacle(session, call, vm, one, size) for one in wanted]
    fitting = [one for one, obstacle in zip(wanted, obstacles, strict=True) if obstacle is None]
    if not fitting:
        reasons += [obstacle for obstacle in obstacles if obstacle] or ["there is no other datacenter"]
    if reasons:
        cause = Cause.INCOMPATIBILITY if vm.state in _MOVABLE else Cause.STATE
        raise refuse(Object.VM, cause, f"vm#{vm.id} cannot be migrated: {'; '.join(reasons)}", "vm_id")
    return fitting[0]


def _obstacle(session: Session, call: Call, vm: Vm, target: Datacenter, size: int) -> str | None:
    """Why the VM cannot be migrated to the datacenter now; None when it can."""
    found = room.obstacle(session, call, target, size)
    if found is not None or vm.state != "running":
        return found
    own = call.services.libvirt_uri
    here = session.get_one(Datacenter, vm.datacenter_id)
    if uri_of(here, own) != uri_of(target, own) and address_of(target, own) is None:
        return f"datacenter {target.dc_code} is on another host that has no migration_address in the settings"
    return None


def _objections(session: Session, vm: Vm) -> list[str]:
    """What forbids to migrate the VM, wherever to."""
    found = []
    if vm.state not in _MOVABLE:
        found.append(f"it is {vm.state}, and must be running or halted")
    waiting = select(Operation).where(Operation.vm_id == vm.id, Operation.step.in_(UNFINISHED))
    found += [f"operation {one.id} ({one.type}) is not finished" for one in session.scalars(waiting)]
    bound = (room.unmovable(iface) for iface in vm.ifaces)
    found += [f"{reason}: detach it first" for reason in bound if reason is not None]
    leaving = [f"disk#{one.id}" for one in vm.disks if one.leaving]
    leaving += [f"iface#{one.id}" for one in vm.ifaces if one.leaving]
    found += [f"{one} is being detached: stop or reboot the VM, so that it leaves" for one in leaving]
    return found
