"""A disk or an interface that no VM has, moved to another datacenter: in one phase."""

from api.operations.backend import Backend
from api.operations.engine import workflow
from api.operations.migration import arrival, copying, plan
from api.operations.migration.plan import Move
from api.operations.run import Run
from api.operations.turn import check_free
from api.store.models import Disk, Iface


@workflow("hosting_migration_disk")
async def migrate_disk(run: Run, disk_id: int, datacenter_id: int) -> None:
    """Copy the disk and its snapshots, and delete the sources."""
    backend = run.backend
    async with run.operation("hosting_migration_disk"):
        await run.step(check_free, backend, Disk, disk_id)
        move = await run.step(depart, backend, disk_id, datacenter_id)
        async with run.undone_by(stay, backend, move):
            await run.step(plan.make_volumes, backend, move, move.copies)
            await run.wait(copying.copied, run, move, move.copies)
            await run.heed(finalize=True)
            await run.note(inner_step=copying.FINALIZING)
            await run.insist(arrive, backend, move)
            await run.insist(plan.discard_sources, backend, move)


@workflow("hosting_migration_iface")
async def migrate_iface(run: Run, iface_id: int, datacenter_id: int) -> None:
    """Give the interface addresses in the other datacenter, and those that it had back."""
    backend = run.backend
    async with run.operation("hosting_migration_iface"):
        await run.step(check_free, backend, Iface, iface_id)
        move = await run.step(way_of, backend, iface_id, datacenter_id)
        async with run.undone_by(arrival.unbook, backend, move):
            await run.step(arrival.book, backend, move)
            await run.insist(arrive, backend, move)
            await run.insist(arrival.give_back, backend, move, move.from_id)


def depart(backend: Backend, disk_id: int, datacenter_id: int) -> Move:
    """Name the copies, and show the disks as on their way; raises `OperationFailed` when there is no room."""
    with backend.store.reading() as session:
        move = plan.of(session, [session.get_one(Disk, disk_id)], [], datacenter_id)
    # libvirt is asked before the records are locked: whoever writes would wait for it
    plan.check_room(backend, move)
    with backend.store.writing() as session:
        plan.show_disks(session, move, "being_migrated")
    return move


def way_of(backend: Backend, iface_id: int, datacenter_id: int) -> Move:
    """From where to where the interface moves."""
    with backend.store.reading() as session:
        return Move(session.get_one(Iface, iface_id).datacenter_id, datacenter_id, (), (iface_id,))


def arrive(backend: Backend, move: Move) -> None:
    """Record that everything is in the other datacenter."""
    with backend.store.writing() as session:
        arrival.follow(session, move)


def stay(backend: Backend, move: Move) -> None:
    """Leave the disks as they were before the move."""
    plan.discard_copies(backend, move)
    with backend.store.writing() as session:
        plan.show_disks(session, move, "created")
