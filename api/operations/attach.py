"""Disks and interfaces attached to a virtual machine and detached, while it runs or not."""

import asyncio
import time

from sqlalchemy.orm import Session

from api.operations import blueprint
from api.operations.backend import Backend
from api.operations.bandwidth import enforce
from api.operations.engine import workflow
from api.operations.run import OperationFailed, Run
from api.store.models import Datacenter, Disk, Iface, Vm, now
from hypervisor.domain import hotplug, power
from hypervisor.domain.power import State


@workflow("disk_attach")
async def attach_disk(run: Run, vm_id: int, disk_id: int, position: int | None, access: str) -> None:
    """Give the VM the disk, at the next free position when none is asked for; plug it in when the VM runs.

    A disk that takes position 0 swaps with the one that had it.
    """
    backend = run.backend
    async with run.operation("disk_attach"):
        swapped = await run.step(take_disk, backend, vm_id, disk_id, position, access)
        async with run.undone_by(undo_attach_disk, backend, vm_id, disk_id, swapped):
            await run.step(plug_disk, backend, vm_id, disk_id)


@workflow("disk_detach")
async def detach_disk(run: Run, vm_id: int, disk_id: int) -> None:
    """Take the disk from the VM; done only when the guest has let go of it."""
    async with run.operation("disk_detach") as outcome:
        await take_out_disk(run, vm_id, disk_id)
        outcome.records(lambda session: free_disk(session, disk_id))


@workflow("iface_attach")
async def attach_iface(run: Run, vm_id: int, iface_id: int) -> None:
    """Give the VM the interface; plug it in when the VM runs. Its addresses are reserved for it already."""
    backend = run.backend
    async with run.operation("iface_attach"):
        await run.step(take_iface, backend, vm_id, iface_id)
        async with run.undone_by(undo_attach_iface, backend, vm_id, iface_id):
            await run.step(plug_iface, backend, vm_id, iface_id)


@workflow("iface_detach")
async def detach_iface(run: Run, vm_id: int, iface_id: int) -> None:
    """Take the interface from the VM; done only when the guest has let go of it."""
    backend = run.backend
    async with run.operation("iface_detach") as outcome:
        uuid = await run.step(mark_iface_leaving, backend, vm_id, iface_id)
        await _leave(run, vm_id, uuid, blueprint.iface_alias(iface_id), f"iface#{iface_id}")
        outcome.records(lambda session: free_iface(session, iface_id))


async def take_out_disk(run: Run, vm_id: int, disk_id: int) -> None:
    """Take the disk out of the definition and of the running guest; raises when the guest holds on to it."""
    await run.step(check_not_root, run.backend, vm_id, disk_id)
    uuid = await run.step(mark_disk_leaving, run.backend, vm_id, disk_id)
    await _leave(run, vm_id, uuid, blueprint.disk_alias(disk_id), f"disk#{disk_id}")


async def _leave(run: Run, vm_id: int, uuid: str, alias: str, what: str) -> None:
    begun = await run.step(time.time)
    if not await run.wait(let_go, run.backend, vm_id, uuid, alias, begun):
        raise OperationFailed(
            f"the guest did not let go of {what}: it is detached at the next reboot or stop of the VM"
        )


def take_disk(backend: Backend, vm_id: int, disk_id: int, position: int | None, access: str) -> int | None:
    """Record the disk as the VM's; returns the id of the disk that lost position 0 to it."""
    with backend.store.writing() as session:
        vm, disk = session.get_one(Vm, vm_id), session.get_one(Disk, disk_id)
        if disk.vm_id is not None and disk.vm_id != vm_id:
            raise OperationFailed(f"disk#{disk_id} was attached to vm#{disk.vm_id} meanwhile")
        others = {one.position: one for one in vm.disks if one.id != disk_id}
        next_free = next(free for free in range(len(others) + 1) if free not in others)
        if next_free > blueprint.MAX_POSITION:
            raise OperationFailed(f"vm#{vm_id} has no position left: detach a disk first")
        place = next_free if position is None else position
        holder = others.get(place)
        if holder is not None and place != 0:
            raise OperationFailed(f"position {place} of vm#{vm_id} was taken meanwhile by disk#{holder.id}")
        if holder is not None:
            holder.position = next_free
        disk.vm_id, disk.position, disk.access = vm_id, place, access
        vm.date_updated = now()
        return None if holder is None else holder.id


def take_iface(backend: Backend, vm_id: int, iface_id: int) -> None:
    """Record the interface as the VM's."""
    with backend.store.writing() as session:
        vm, iface = session.get_one(Vm, vm_id), session.get_one(Iface, iface_id)
        if iface.vm_id is not None and iface.vm_id != vm_id:
            raise OperationFailed(f"iface#{iface_id} was attached to vm#{iface.vm_id} meanwhile")
        taken = {one.num for one in vm.ifaces if one.id != iface_id}
        number = next(free for free in range(len(taken) + 1) if free not in taken)
        iface.vm_id, iface.num, iface.state = vm_id, number, "used"
        vm.date_updated = now()


def plug_disk(backend: Backend, vm_id: int, disk_id: int) -> None:
    """Define the domain anew, and plug the disk into it when it runs."""
    connection, _ = backend.machine(vm_id)
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
        if power.state(connection, vm.uuid) is State.ABSENT:
            return
        datacenter = session.get_one(Datacenter, vm.datacenter_id)
        device = blueprint.disk(backend, datacenter, session.get_one(Disk, disk_id))
        power.define(connection, blueprint.domain(backend, session, vm))
    hotplug.plug_disk(connection, vm.uuid, device)


def plug_iface(backend: Backend, vm_id: int, iface_id: int) -> None:
    """Define the domain anew, and plug the interface into it when it runs."""
    connection, _ = backend.machine(vm_id)
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
        if power.state(connection, vm.uuid) is State.ABSENT:
            return
        datacenter = session.get_one(Datacenter, vm.datacenter_id)
        device = blueprint.interface(datacenter, session.get_one(Iface, iface_id))
        power.define(connection, blueprint.domain(backend, session, vm))
    hotplug.plug_interface(connection, vm.uuid, device)
    enforce(backend, vm_id)


def check_not_root(backend: Backend, vm_id: int, disk_id: int) -> None:
    """Refuse to take the disk that the guest runs from: after a swap that is not the one at position 0."""
    if hotplug.booted_from(*backend.machine(vm_id)) == blueprint.disk_alias(disk_id):
        raise OperationFailed(
            f"vm#{vm_id} runs from disk#{disk_id} until its next start: stop it, then detach the disk"
        )


def mark_disk_leaving(backend: Backend, vm_id: int, disk_id: int) -> str:
    """Record that the disk is on its way out, and define the domain without it; returns the domain's UUID."""
    with backend.store.writing() as session:
        session.get_one(Disk, disk_id).leaving = True
    return _define(backend, vm_id)


def mark_iface_leaving(backend: Backend, vm_id: int, iface_id: int) -> str:
    """Record that the interface is on its way out, and define the domain without it; returns the domain's
    UUID."""
    with backend.store.writing() as session:
        session.get_one(Iface, iface_id).leaving = True
    return _define(backend, vm_id)


def _define(backend: Backend, vm_id: int) -> str:
    connection, _ = backend.machine(vm_id)
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
        if power.state(connection, vm.uuid) is not State.ABSENT:
            power.define(connection, blueprint.domain(backend, session, vm))
        return vm.uuid


async def let_go(backend: Backend, vm_id: int, uuid: str, alias: str, begun: float) -> bool:
    """Ask the guest for the device until it is gone, or until patience ends (False)."""
    deadline = begun + backend.patience.detach
    with backend.events.watching(uuid) as watch:
        again = 0.0
        while True:
            if not await asyncio.to_thread(_has, backend, vm_id, alias):
                return True
            now = time.time()
            if now >= deadline:
                return False
            if now >= again:
                await asyncio.to_thread(_ask, backend, vm_id, alias)
                again = now + backend.patience.detach_again
            await watch.next(min(again, deadline) - now)


def _has(backend: Backend, vm_id: int, alias: str) -> bool:
    return alias in hotplug.plugged(*backend.machine(vm_id))


def _ask(backend: Backend, vm_id: int, alias: str) -> None:
    hotplug.ask_to_let_go(*backend.machine(vm_id), alias)


def undo_attach_disk(backend: Backend, vm_id: int, disk_id: int, swapped: int | None) -> None:
    """Take back an attachment that failed."""
    with backend.store.writing() as session:
        if swapped is not None:
            session.get_one(Disk, swapped).position = 0
        free_disk(session, disk_id)
    _define(backend, vm_id)
    # else the guest's process keeps the disk from everybody
    hotplug.drop_leftovers(*backend.machine(vm_id))


def undo_attach_iface(backend: Backend, vm_id: int, iface_id: int) -> None:
    """Take back an attachment that failed."""
    with backend.store.writing() as session:
        mac = session.get_one(Iface, iface_id).mac
        free_iface(session, iface_id)
    _define(backend, vm_id)
    # else its tap stays in the bridge
    hotplug.drop_leftover_interface(*backend.machine(vm_id), blueprint.iface_alias(iface_id), mac)


def free_disk(session: Session, disk_id: int) -> None:
    """Record that the disk is on no VM."""
    disk = session.get_one(Disk, disk_id)
    _touch(session, disk.vm_id)
    disk.vm_id, disk.position, disk.access, disk.leaving = None, None, "read/write", False


def free_iface(session: Session, iface_id: int) -> None:
    """Record that the interface is on no VM."""
    iface = session.get_one(Iface, iface_id)
    _touch(session, iface.vm_id)
    iface.vm_id, iface.num, iface.state, iface.leaving = None, None, "free", False


def _touch(session: Session, vm_id: int | None) -> None:
    if vm_id is not None:
        session.get_one(Vm, vm_id).date_updated = now()
