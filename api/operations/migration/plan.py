"""What a move is made of: the volumes that are copied, and from where to where."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from api.operations import blueprint
from api.operations.backend import Backend
from api.operations.disk import volume_name
from api.operations.run import OperationFailed
from api.store.models import Datacenter, Disk, Vm
from hypervisor.domain.mirror import Mirror
from hypervisor.storage import pool, volume


@dataclass(frozen=True, slots=True)
class Copy:
    """A volume and its copy, by pool and name. `disk_id` is None for a VM's seed; `plugged` is whether the
    VM has it as a device."""

    disk_id: int | None
    form: str
    size: int  # MiB
    plugged: bool
    source_pool: str
    source: str
    pool: str
    name: str


@dataclass(frozen=True, slots=True)
class Move:
    """From one datacenter to another, by id."""

    from_id: int
    to_id: int
    copies: tuple[Copy, ...]

    @property
    def plugged(self) -> list[Copy]:
        """What a running VM has open."""
        return [copy for copy in self.copies if copy.plugged]


def of_disks(session: Session, disks: Iterable[Disk], to_id: int, vm: Vm | None = None) -> Move:
    """The move of `disks` with their snapshots, and of the `vm` that has them, if one has; with new names."""
    owner = vm if vm is not None else next(iter(disks))
    here = session.get_one(Datacenter, owner.datacenter_id)
    there = session.get_one(Datacenter, to_id)
    copies = [
        Copy(one.id, "qcow2", one.size, vm is not None and one.vm_id == vm.id, here.pool, one.volume,
             there.pool, volume_name(one.id))
        for disk in disks
        for one in (disk, *disk.snapshots)
    ]  # fmt: skip
    if vm is not None:
        seed = blueprint.seed_volume(vm)
        copies.append(Copy(None, "raw", 1, plugged=True, source_pool=here.pool, source=seed,
                           pool=there.pool, name=seed))  # fmt: skip
    return Move(here.id, there.id, tuple(copies))


def check_room(backend: Backend, move: Move) -> None:
    """Refuse a move into a pool that does not run or has no space for the disks as large as they may get."""
    needed = sum(copy.size for copy in move.copies)
    for name in {copy.pool for copy in move.copies}:
        room = pool.room(backend.handle(), name)
        if not room.active:
            raise OperationFailed(f"storage pool {name} does not run: start it with virsh pool-start {name}")
        if room.free < needed:
            raise OperationFailed(
                f"storage pool {name} has {room.free} MiB left, and {needed} are needed: free space there"
            )


def make_volumes(backend: Backend, copies: Sequence[Copy]) -> None:
    """Make the volumes of the copies, empty, anew."""
    for copy in copies:
        volume.create_twin(
            backend.handle(), copy.pool, copy.name, copy.form, copy.source_pool, copy.source
        )


def discard_copies(backend: Backend, copies: Sequence[Copy]) -> None:
    """Remove the volumes of the copies."""
    for copy in copies:
        volume.delete(backend.handle(), copy.pool, copy.name)


def discard_sources(backend: Backend, copies: Sequence[Copy]) -> None:
    """Remove the volumes that were copied."""
    for copy in copies:
        volume.delete(backend.handle(), copy.source_pool, copy.source)


def mirrors(backend: Backend, copies: Sequence[Copy]) -> list[Mirror]:
    """The copies as the running machine makes them."""
    connection = backend.handle()
    return [
        Mirror(
            volume.path(connection, copy.source_pool, copy.source),
            volume.path(connection, copy.pool, copy.name),
            copy.form,
        )
        for copy in copies
    ]
