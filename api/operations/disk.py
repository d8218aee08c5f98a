"""Disks: their volumes made, grown and removed."""

import re
import secrets
from dataclasses import dataclass

from sqlalchemy.orm import Session

from api.operations.backend import Backend
from api.operations.engine import workflow
from api.operations.run import Run
from api.operations.turn import check_free
from api.store.models import Datacenter, Disk, Vm
from hypervisor.domain import devices, power
from hypervisor.storage import volume

# a snapshot of a disk, or a copy of one; what was made before volumes told their owners has the id alone
_NAME = re.compile(
    r"disk-(?P<id>[0-9]+)-((?P<account>[0-9]+)\.((?P<how>[sc])(?P<source>[0-9]+)\.)?)?[0-9a-f]{8}\.qcow2"
)


def volume_name(disk: Disk) -> str:
    """A new name for the volume of a disk of an account: it tells the disk, its owner and its source, should
    the records be lost. The random part keeps it apart from those of an earlier store."""
    source = "" if disk.source_id is None else f"{'s' if disk.type == 'snapshot' else 'c'}{disk.source_id}."
    return f"disk-{disk.id}-{disk.account_id}.{source}{secrets.token_hex(4)}.qcow2"


@dataclass(frozen=True, slots=True)
class Named:
    """What a volume's name tells of its disk, by id."""

    id: int
    account_id: int | None
    source_id: int | None
    is_snapshot: bool


def named(name: str) -> Named | None:
    """What the name tells; None for a volume that is no disk of an account."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    account, source = match["account"], match["source"]
    return Named(
        id=int(match["id"]),
        account_id=None if account is None else int(account),
        source_id=None if source is None else int(source),
        is_snapshot=match["how"] == "s",
    )


@workflow("disk_create")
async def create(run: Run, disk_id: int) -> None:
    """Make a disk: empty, or as its source is."""
    async with run.undone_by(discard, run.backend, disk_id), run.operation("disk_create") as outcome:
        await run.step(make_volume, run.backend, disk_id)
        outcome.records(lambda session: created(session, disk_id))


@workflow("disk_update")
async def update(run: Run, disk_id: int, size: int | None) -> None:
    """Grow the disk to `size` MiB; what else is changed is in the records already."""
    async with run.undone_by(measure, run.backend, disk_id), run.operation("disk_update") as outcome:
        if size is not None:
            await run.step(grow, run.backend, disk_id, size)
            outcome.records(lambda session: resized(session, disk_id, size))


@workflow("disk_delete")
async def delete(run: Run, disk_id: int) -> None:
    """Erase a detached disk."""
    async with run.operation("disk_delete") as outcome:
        await run.step(check_free, run.backend, Disk, disk_id)
        await run.step(remove_volume, run.backend, disk_id)
        outcome.records(lambda session: forget(session, disk_id))


def make_volume(backend: Backend, disk_id: int) -> None:
    """The disk's volume: an overlay when its source is an image, else a full copy of it, else empty."""
    with backend.store.reading() as session:
        disk = session.get_one(Disk, disk_id)
        pool = session.get_one(Datacenter, disk.datacenter_id).pool
        source = None if disk.source_id is None else session.get_one(Disk, disk.source_id)
        user = None if source is None or source.vm_id is None else session.get_one(Vm, source.vm_id)
    connection = backend.handle(disk.datacenter_id)
    if source is None:
        volume.create_empty(connection, pool, disk.volume, disk.size)
        return
    base = volume.path(connection, pool, source.volume)
    if source.account_id is None:
        volume.create_overlay(connection, pool, disk.volume, disk.size, base)
    elif user is not None and power.state(connection, user.uuid).powered:
        target = volume.create_empty(connection, pool, disk.volume, source.size)
        devices.copy_disk(connection, user.uuid, base, target)
        volume.resize(connection, pool, disk.volume, disk.size)
    else:
        volume.create_copy(connection, pool, disk.volume, disk.size, base)


def grow(backend: Backend, disk_id: int, size: int) -> None:
    """Make the volume `size` MiB large, through its guest when one has it open."""
    with backend.store.reading() as session:
        disk = session.get_one(Disk, disk_id)
        pool = session.get_one(Datacenter, disk.datacenter_id).pool
        vm = None if disk.vm_id is None else session.get_one(Vm, disk.vm_id)
    connection = backend.handle(disk.datacenter_id)
    if vm is not None and power.state(connection, vm.uuid).powered:
        devices.resize_disk(connection, vm.uuid, volume.path(connection, pool, disk.volume), size)
    else:
        volume.resize(connection, pool, disk.volume, size)


def measure(backend: Backend, disk_id: int) -> None:
    """Record the size that the volume has: a growth that failed may have come about all the same."""
    with backend.store.reading() as session:
        disk = session.get_one(Disk, disk_id)
        pool = session.get_one(Datacenter, disk.datacenter_id).pool
    size = volume.capacity(backend.handle(disk.datacenter_id), pool, disk.volume)
    with backend.store.writing() as session:
        resized(session, disk_id, size)


def remove_volume(backend: Backend, disk_id: int) -> None:
    """Erase the disk's volume, unless it is gone."""
    with backend.store.reading() as session:
        disk = session.get(Disk, disk_id)
        pool = None if disk is None else session.get_one(Datacenter, disk.datacenter_id).pool
    if disk is not None and pool is not None:
        volume.delete(backend.handle(disk.datacenter_id), pool, disk.volume)


def discard(backend: Backend, disk_id: int) -> None:
    """Undo an unfinished disk: its volume and its record."""
    remove_volume(backend, disk_id)
    with backend.store.writing() as session:
        forget(session, disk_id)


def created(session: Session, disk_id: int) -> None:
    """Record that the disk exists."""
    session.get_one(Disk, disk_id).state = "created"


def resized(session: Session, disk_id: int, size: int) -> None:
    """Record the disk's new size in MiB."""
    session.get_one(Disk, disk_id).size = size


def forget(session: Session, disk_id: int) -> None:
    """Remove the disk's record, unless it is gone."""
    disk = session.get(Disk, disk_id)
    if disk is not None:
        session.delete(disk)
