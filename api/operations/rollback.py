"""A disk put back to what a snapshot of it holds."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from api.operations import attach, blueprint
from api.operations import disk as disks
from api.operations.backend import Backend
from api.operations.create import build
from api.operations.engine import workflow
from api.operations.observer import observed, settle
from api.operations.power import halt
from api.operations.run import Run
from api.operations.turn import check_free
from api.store.models import Datacenter, Disk
from hypervisor.domain import hotplug, power
from hypervisor.storage import volume


@workflow("disk_rollback")
async def rollback(
    run: Run,
    vm_id: int | None,
    running: bool,
    old_id: int,
    new_id: int,
    position: int | None,
    access: str,
) -> None:
    """Stop the VM, detach the old disk, create and attach the new one, start the VM, delete the old disk.

    What is not the case is left out: a halted VM is neither stopped nor started, a free disk not detached.
    When any of it fails, the old disk is where it was and the VM runs again, if it did.
    """
    backend, replaced, is_there = run.backend, False, False
    async with run.undone_by(disks.discard, backend, new_id):
        if vm_id is None:
            await run.step(check_free, backend, Disk, old_id)
        is_there = True
    if not is_there:
        return
    async with run.undone_by(undo, backend, vm_id, running, old_id, new_id, position, access):
        if vm_id is not None and running:
            async with run.operation("vm_stop") as outcome:
                await halt(run, vm_id)
                outcome.records(lambda session: observed(session, vm_id, "halted"))
        if vm_id is not None:
            async with run.operation("disk_detach") as outcome:
                await attach.take_out_disk(run, vm_id, old_id)
                outcome.records(lambda session: attach.free_disk(session, old_id))
        async with run.operation("disk_create") as outcome:
            await run.step(disks.make_volume, backend, new_id)
            outcome.records(lambda session: disks.created(session, new_id))
        if vm_id is not None:
            async with run.operation("disk_attach"):
                await run.step(put_in_place, backend, vm_id, new_id, position, access)
                await run.step(attach.plug_disk, backend, vm_id, new_id)
            if running:
                async with run.operation("vm_start") as outcome:
                    state = await run.step(build, backend, vm_id)
                    outcome.records(lambda session: observed(session, vm_id, state))
        # from here on the new disk is the disk: what is left to do cannot bring the old one back
        await run.step(succeed, backend, old_id, new_id)
        replaced = True
    if not replaced:
        return
    async with run.operation("disk_delete") as outcome:
        await run.step(disks.remove_volume, backend, old_id)
        outcome.records(lambda session: disks.forget(session, old_id))
    if vm_id is not None:
        await run.step(settle, backend, vm_id)


@workflow("disk_rollback_from")
async def rollback_from(run: Run, disk_id: int, snapshot_id: int, new_volume: str) -> None:
    """Give a free disk the content of its snapshot: a new volume, which takes the place of the old one."""
    backend = run.backend
    async with (
        run.undone_by(discard_volume, backend, disk_id, new_volume),
        run.operation("disk_rollback_from"),
    ):
        await run.step(check_free, backend, Disk, disk_id)
        await run.step(copy_snapshot, backend, disk_id, snapshot_id, new_volume)
        old_volume = await run.step(take_volume, backend, disk_id, snapshot_id, new_volume)
        await run.step(discard_volume, backend, disk_id, old_volume)


def put_in_place(backend: Backend, vm_id: int, disk_id: int, position: int | None, access: str) -> None:
    """Record the disk as the VM's at `position`."""
    with backend.store.writing() as session:
        disk = session.get_one(Disk, disk_id)
        disk.vm_id, disk.position, disk.access = vm_id, position, access


def succeed(backend: Backend, old_id: int, new_id: int) -> None:
    """Make the new disk the one that the old one's snapshots are of."""
    with backend.store.writing() as session:
        session.execute(
            update(Disk).where(Disk.source_id == old_id, Disk.type == "snapshot").values(source_id=new_id)
        )


def undo(
    backend: Backend,
    vm_id: int | None,
    running: bool,
    old_id: int,
    new_id: int,
    position: int | None,
    access: str,
) -> None:
    """Put the old disk back where it was, and start the VM again if it ran."""
    with backend.store.writing() as session:
        new = session.get(Disk, new_id)
        if new is not None:
            new.vm_id, new.position = None, None
        old = session.get_one(Disk, old_id)
        old.vm_id, old.position, old.access, old.leaving = vm_id, position, access, False
    if vm_id is not None:
        # a machine that was started from the new disk lets go of it
        release(backend, vm_id, new_id)
    disks.discard(backend, new_id)
    if vm_id is not None:
        attach.plug_disk(backend, vm_id, old_id)
        if running:
            build(backend, vm_id)


def release(backend: Backend, vm_id: int, disk_id: int) -> None:
    """Cut the VM off if it runs with the disk."""
    connection, uuid = backend.machine(vm_id)
    if blueprint.disk_alias(disk_id) in hotplug.plugged(connection, uuid):
        power.cut_off(connection, uuid)


def copy_snapshot(backend: Backend, disk_id: int, snapshot_id: int, new_volume: str) -> None:
    """Copy the snapshot's volume."""
    with backend.store.reading() as session:
        datacenter = _datacenter(session, disk_id)
        snapshot = session.get_one(Disk, snapshot_id)
    connection = backend.handle(datacenter.id)
    source = volume.path(connection, datacenter.pool, snapshot.volume)
    volume.create_copy(connection, datacenter.pool, new_volume, snapshot.size, source)


def take_volume(backend: Backend, disk_id: int, snapshot_id: int, new_volume: str) -> str:
    """Record the new volume as the disk's; returns the old one's name."""
    with backend.store.writing() as session:
        disk = session.get_one(Disk, disk_id)
        old, disk.volume = disk.volume, new_volume
        disk.size = session.get_one(Disk, snapshot_id).size
        return old


def discard_volume(backend: Backend, disk_id: int, name: str) -> None:
    """Remove the volume `name`, unless it is the disk's."""
    with backend.store.reading() as session:
        datacenter = _datacenter(session, disk_id)
        if session.get_one(Disk, disk_id).volume == name:
            return
    volume.delete(backend.handle(datacenter.id), datacenter.pool, name)


def _datacenter(session: Session, disk_id: int) -> Datacenter:
    return session.get_one(Datacenter, session.get_one(Disk, disk_id).datacenter_id)
