"""A virtual machine made, started anew, and deleted."""

import logging

from sqlalchemy.orm import Session

from api.operations import blueprint, triggers
from api.operations import disk as disks
from api.operations import iface as ifaces
from api.operations.attach import free_disk, free_iface
from api.operations.backend import Backend
from api.operations.engine import workflow
from api.operations.observer import observed, settle, state_of
from api.operations.run import OperationFailed, Run
from api.store.models import Datacenter, Vm
from hypervisor.domain import console_log, power
from hypervisor.seed import build_iso
from hypervisor.storage import volume

log = logging.getLogger(__name__)


@workflow("vm_create")
async def create(run: Run, vm_id: int, disk_id: int | None, iface_id: int | None) -> None:
    """Make the disk and the interface that were asked for, define the domain, start it.

    When any of it fails, all of it is undone; a disk or an interface that existed before is free again.
    """
    backend = run.backend
    async with run.undone_by(undo, backend, vm_id, disk_id, iface_id):
        # QEMU's tool makes the volume in the time that the addresses take
        async with run.beside(reserve, backend, iface_id) as reserved:
            if disk_id is not None:
                async with run.operation("disk_create") as outcome:
                    await run.step(disks.make_volume, backend, disk_id)
                    outcome.records(lambda session: disks.created(session, disk_id))
            if iface_id is not None:
                async with run.operation("iface_create") as outcome:
                    await reserved
                    outcome.records(lambda session: ifaces.created(session, iface_id))
        async with run.operation("vm_create") as outcome:
            state = await run.step(build, backend, vm_id)
            outcome.records(lambda session: observed(session, vm_id, state))
        await run.step(settle, backend, vm_id)


@workflow("vm_start")
async def start(run: Run, vm_id: int) -> None:
    """Define the domain as the records have it now, and start it."""
    async with run.operation("vm_start") as outcome:
        state = await run.step(build, run.backend, vm_id)
        outcome.records(lambda session: observed(session, vm_id, state))
    await run.step(settle, run.backend, vm_id)


@workflow("vm_delete")
async def delete(run: Run, vm_id: int) -> None:
    """Remove the domain with its system disk and its first interface; the others are free afterwards."""
    backend = run.backend
    async with run.operation("vm_delete") as outcome:
        await run.step(check_halted, backend, vm_id)
        disk_id, iface_id = await run.step(what_goes_along, backend, vm_id)
        await run.step(dismantle, backend, vm_id)
        if disk_id is not None:
            await run.step(disks.remove_volume, backend, disk_id)
        if iface_id is not None:
            await run.step(ifaces.release, backend, iface_id)
        outcome.records(lambda session: deleted(session, vm_id, disk_id, iface_id))


def reserve(backend: Backend, iface_id: int | None) -> None:
    """Reserve the addresses of the interface, when there is one to make."""
    if iface_id is not None:
        ifaces.reserve(backend, iface_id)


def build(backend: Backend, vm_id: int) -> str:
    """Write the seed, define the domain and power it on; returns the state that follows."""
    connection, _ = backend.machine(vm_id)
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
        pool = session.get_one(Datacenter, vm.datacenter_id).pool
        if power.state(connection, vm.uuid) in (power.State.ABSENT, power.State.OFF):
            volume.upload(connection, pool, blueprint.seed_volume(vm), build_iso(blueprint.seed(vm)), "raw")
            power.define(connection, blueprint.domain(backend, session, vm))
        power.start(connection, vm.uuid)
        if vm.ifaces and not backend.hosts.is_near(vm.datacenter_id):
            log.warning("vm#%d: bandwidth is not limited: it runs on another host", vm_id)
    return state_of(backend, vm_id)


def check_halted(backend: Backend, vm_id: int) -> None:
    """Refuse to go on when the guest runs, because a stop queued before the deletion failed."""
    connection, uuid = backend.machine(vm_id)
    if power.state(connection, uuid).powered:
        raise OperationFailed(f"vm#{vm_id} is running: stop it, then delete it again")


def what_goes_along(backend: Backend, vm_id: int) -> tuple[int | None, int | None]:
    """The disk at position 0 and the first interface, by id: those of now, because calls that were accepted
    before the deletion may have taken others out."""
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
        disk = next((one.id for one in vm.disks if one.position == 0 and not one.leaving), None)
        return disk, next((one.id for one in vm.ifaces if not one.leaving), None)


def dismantle(backend: Backend, vm_id: int) -> None:
    """Remove the domain, its seed and its console log."""
    with backend.store.reading() as session:
        vm = session.get(Vm, vm_id)
        if vm is None:
            return
        pool = session.get_one(Datacenter, vm.datacenter_id).pool
    connection = backend.handle(vm.datacenter_id)
    power.undefine(connection, vm.uuid)
    volume.delete(connection, pool, blueprint.seed_volume(vm))
    console_log.remove(backend.console_logs / f"{vm.uuid}.log")


def undo(backend: Backend, vm_id: int, disk_id: int | None, iface_id: int | None) -> None:
    """Take back a creation that failed."""
    dismantle(backend, vm_id)
    if disk_id is not None:
        disks.remove_volume(backend, disk_id)
    if iface_id is not None:
        ifaces.release(backend, iface_id)
    with backend.store.writing() as session:
        vm = session.get(Vm, vm_id)
        if vm is not None:
            _let_go(session, vm, disk_id, iface_id)
            session.flush()
            session.delete(vm)


def deleted(session: Session, vm_id: int, disk_id: int | None, iface_id: int | None) -> None:
    """Record the end of the VM; its row stays and says so."""
    vm = session.get_one(Vm, vm_id)
    _let_go(session, vm, disk_id, iface_id)
    vm.state = "deleted"
    vm.seed = {}


def _let_go(session: Session, vm: Vm, disk_id: int | None, iface_id: int | None) -> None:
    triggers.forget(session, vm.id)
    for disk in vm.disks:
        free_disk(session, disk.id)
        if disk.id == disk_id:
            disks.forget(session, disk.id)
    for iface in vm.ifaces:
        free_iface(session, iface.id)
        if iface.id == iface_id:
            ifaces.forget(session, iface.id)
