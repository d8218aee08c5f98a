"""What a move is made of: the volumes that are copied, and from where to where."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from sqlalchemy.orm import Session

from api.operations import blueprint
from api.operations.backend import Backend
from api.operations.disk import volume_name
from api.operations.run import OperationFailed
from api.store.models import Datacenter, Disk, Iface, Vm
from hypervisor.domain.mirror import Mirror
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import Busy, Unavailable
from hypervisor.storage import carriage, pool, volume

P = ParamSpec("P")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Copy:
    """A volume and its copy, by pool and name.

    `disk_id` is None for a VM's seed; `plugged` is whether the VM has it as a device; `size` is in MiB.
    """

    disk_id: int | None
    form: str
    size: int
    plugged: bool
    source_pool: str
    source: str
    pool: str
    name: str


@dataclass(frozen=True, slots=True)
class Move:
    """From one datacenter to another, by id: the volumes, and the interfaces by id."""

    from_id: int
    to_id: int
    copies: tuple[Copy, ...]
    iface_ids: tuple[int, ...] = ()

    @property
    def plugged(self) -> list[Copy]:
        """What a running VM has open."""
        return [copy for copy in self.copies if copy.plugged]


def of(
    session: Session, disks: Sequence[Disk], ifaces: Iterable[Iface], to_id: int, vm: Vm | None = None
) -> Move:
    """The move of `disks` with their snapshots, and of `ifaces`; of the `vm` they are on, and its seed."""
    there = session.get_one(Datacenter, to_id)
    here = session.get_one(Datacenter, (vm or disks[0]).datacenter_id)

    def copy(disk: Disk, *, plugged: bool) -> Copy:
        name = volume_name(disk)
        return Copy(disk.id, "qcow2", disk.size, plugged, here.pool, disk.volume, there.pool, name)

    copies = [copy(disk, plugged=vm is not None) for disk in disks]
    copies += [copy(snapshot, plugged=False) for disk in disks for snapshot in disk.snapshots]
    if vm is not None:
        seed = blueprint.seed_volume(vm)
        copies.append(Copy(None, "raw", 1, True, here.pool, seed, there.pool, seed))
    return Move(here.id, there.id, tuple(copies), tuple(iface.id for iface in ifaces))


def is_far(backend: Backend, move: Move) -> bool:
    """Whether the move is to another host."""
    return backend.hosts.are_apart(move.from_id, move.to_id)


def check_room(backend: Backend, move: Move) -> None:
    """Refuse a move into a pool that does not run, or has no space for the disks as large as they may get."""
    needed = sum(copy.size for copy in move.copies)
    for name in {copy.pool for copy in move.copies}:
        room = pool.room(backend.handle(move.to_id), name)
        if not room.active:
            raise OperationFailed(f"storage pool {name} does not run: start it with virsh pool-start {name}")
        if room.free < needed:
            raise OperationFailed(
                f"storage pool {name} has {room.free} MiB left, and {needed} may be needed: free space there"
            )


def make_volumes(backend: Backend, move: Move, copies: Iterable[Copy]) -> None:
    """Make the volumes of the copies, empty, anew; on another host they come with their content."""
    if is_far(backend, move):
        return
    connection = backend.handle(move.to_id)
    for copy in copies:
        volume.create_twin(connection, copy.pool, copy.name, copy.form, copy.source_pool, copy.source)


def discard_copies(backend: Backend, move: Move) -> None:
    """Remove the volumes of the copies; one in a pool that has gone is left there, and logged."""
    for copy in move.copies:
        attempt(_discard, backend, move, copy)


def _discard(backend: Backend, move: Move, copy: Copy) -> None:
    connection = backend.handle(move.to_id)
    pool.start(connection, copy.pool)
    volume.delete(connection, copy.pool, copy.name)
    if is_far(backend, move):
        carriage.clear(backend.handle(move.from_id), source_of(backend, move, copy))


def attempt(function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Do a part of what undoes a move; the others are done too when it fails.

    Raises `Unavailable` and `Busy`, after which all of it is done again.
    """
    try:
        function(*args, **kwargs)
    except (Unavailable, Busy):
        raise
    except HypervisorError as error:
        log.warning("something of a migration is left: %s", error)


def discard_sources(backend: Backend, move: Move) -> None:
    """Remove the volumes that were copied."""
    connection = backend.handle(move.from_id)
    for copy in move.copies:
        volume.delete(connection, copy.source_pool, copy.source)


def source_of(backend: Backend, move: Move, copy: Copy) -> Path:
    """Where the volume is that is copied."""
    return volume.place(backend.handle(move.from_id), copy.source_pool, copy.source)


def mirrors(backend: Backend, move: Move) -> list[Mirror]:
    """The copies as the running machine makes them."""
    there = backend.handle(move.to_id)
    return [
        Mirror(source_of(backend, move, copy), volume.place(there, copy.pool, copy.name), copy.form)
        for copy in move.plugged
    ]


def show_disks(session: Session, move: Move, state: str) -> None:
    """Record the state of the disks that move."""
    for copy in move.copies:
        if copy.disk_id is not None:
            session.get_one(Disk, copy.disk_id).state = state
