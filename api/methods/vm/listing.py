"""``hosting.vm.list``, ``count`` and ``info``."""

from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import joinedload, lazyload, load_only, selectinload
from sqlalchemy.orm.attributes import set_committed_value

from api.methods.call import Call, Struct
from api.methods.faults import Object, not_found
from api.methods.filters import Columns, counted, matching, paged
from api.methods.ids import VmId
from api.methods.table import method
from api.methods.vm.parameters import VMCountOptions, VMListOptions
from api.methods.vm.shown import brief, full
from api.store.models import Disk, Iface, Vm

_COLUMNS: Columns = {
    "cores": Vm.cores,
    "datacenter_id": Vm.datacenter_id,
    "date_created": Vm.date_created,
    "farm": Vm.farm,
    "hostname": Vm.hostname,
    "id": Vm.id,
    "memory": Vm.memory,
    "state": Vm.state,
}

# two questions for everything that `full` shows, put together once: clients ask for it every second
_ONE = (
    select(Vm)
    .where(Vm.id == bindparam("identifier"), Vm.account_id == bindparam("owner"))
    .options(
        joinedload(Vm.ifaces).options(joinedload(Iface.ips), joinedload(Iface.vlan)), joinedload(Vm.triggers)
    )
)
_DISKS = (
    select(Disk)
    .where(Disk.vm_id == bindparam("identifier"))
    .order_by(Disk.position)
    .options(joinedload(Disk.snapshots))
)


def _visible(call: Call, opts: VMCountOptions | None) -> Select[Vm]:
    query = select(Vm).where(Vm.account_id == call.account.id)
    # the deleted ones are shown to those who ask for them
    if opts is None or opts.state is None:
        query = query.where(Vm.state != "deleted")
    return matching(query, opts, _COLUMNS)


@method("hosting.vm.list", "array", changes=False)
def list_(call: Call, opts: VMListOptions | None = None) -> list[Struct]:
    """List virtual machines."""
    query = paged(_visible(call, opts), opts, _COLUMNS).options(
        selectinload(Vm.disks).load_only(Disk.id, Disk.vm_id),
        selectinload(Vm.ifaces).options(
            load_only(Iface.id, Iface.vm_id), lazyload(Iface.ips), lazyload(Iface.vlan)
        ),
    )
    with call.store.reading() as session:
        return [brief(call, vm) for vm in session.scalars(query)]


@method("hosting.vm.count", "int", changes=False)
def count(call: Call, opts: VMCountOptions | None = None) -> int:
    """Count virtual machines."""
    with call.store.reading() as session:
        return counted(session, _visible(call, opts))


@method("hosting.vm.info", "struct", changes=False)
def info(call: Call, vm_id: VmId) -> Struct:
    """Get information about a virtual machine."""
    with call.store.reading() as session:
        found = session.scalars(_ONE, {"identifier": vm_id, "owner": call.account.id})
        vm = found.unique().one_or_none()
        if vm is None:
            raise not_found(Object.VM, vm_id)
        disks = session.scalars(_DISKS, {"identifier": vm_id}).unique().all()
        set_committed_value(vm, "disks", disks)
        return full(call, vm)
