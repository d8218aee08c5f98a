"""``hosting.vm.list``, ``count`` and ``info``."""

from sqlalchemy import Select, select
from sqlalchemy.orm import joinedload, lazyload, load_only, selectinload

from api.methods.call import Call, Struct
from api.methods.faults import Object, not_found
from api.methods.filters import Columns, counted, matching, paged
from api.methods.parameters import Id
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

# two questions for everything that `full` shows: each further one costs as much as either
_WHOLE = (
    joinedload(Vm.ifaces).options(joinedload(Iface.ips), joinedload(Iface.vlan)),
    joinedload(Vm.triggers),
    selectinload(Vm.disks).joinedload(Disk.snapshots),
)


def _visible(call: Call, opts: VMCountOptions | None) -> Select[Vm]:
    query = select(Vm).where(Vm.account_id == call.account.id)
    # the deleted ones are shown to those who ask for them
    if opts is None or opts.state is None:
        query = query.where(Vm.state != "deleted")
    return matching(query, opts, _COLUMNS)


@method("hosting.vm.list", "array")
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


@method("hosting.vm.count", "int")
def count(call: Call, opts: VMCountOptions | None = None) -> int:
    """Count virtual machines."""
    with call.store.reading() as session:
        return counted(session, _visible(call, opts))


@method("hosting.vm.info", "struct")
def info(call: Call, vm_id: Id) -> Struct:
    """Get information about a virtual machine."""
    with call.store.reading() as session:
        vm = session.get(Vm, vm_id, options=_WHOLE)
        if vm is None or vm.account_id != call.account.id:
            raise not_found(Object.VM, vm_id)
        return full(call, vm)
