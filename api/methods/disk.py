"""``hosting.disk.*``: volumes. Sizes are in MiB."""

import time
from typing import Any

from pydantic import Field
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from api.methods import operation, quota, room
from api.methods.call import Call, Struct
from api.methods.faults import Cause, Object, not_found, refuse
from api.methods.filters import Columns, IntFilter, Page, Pattern, TextFilter, counted, matching, paged
from api.methods.ids import DatacenterId, DiskId, SnapshotId
from api.methods.lookup import check_free, datacenter, open_datacenter, own, source_disk
from api.methods.parameters import Int, Parameters, Text
from api.methods.snapshotprofile import show as show_profile
from api.methods.table import method
from api.operations.disk import volume_name
from api.operations.jobs import Planned
from api.operations.migration.copying import WAIT_SYNC
from api.operations.quota import coming_size
from api.store.models import Datacenter, Disk

# a guest brings its own kernel: these are the ways to boot it that the API has names for
KERNELS = {"linux-hvm": ["grub", "raw"]}
_SIZE_STEP = 1024
_DEFAULT_SIZE = 10240

Cmdline = Text | dict[str, str | bool]


class DiskSpec(Parameters):
    """The disk of ``hosting.disk.create``."""

    datacenter_id: DatacenterId
    name: Text | None = None
    size: Int | None = None
    type: Text = "data"
    kernel: Text | None = None
    cmdline: Cmdline | None = None
    snapshot_profile: Int | None = None


class DiskFromSpec(DiskSpec):
    """The disk of ``hosting.disk.create_from``; in its source's datacenter unless another is named."""

    datacenter_id: DatacenterId | None = None  # type: ignore[assignment]


class DiskUpdate(Parameters):
    """What ``hosting.disk.update`` may change; an empty `snapshot_profile` removes it."""

    name: Text | None = None
    size: Int | None = None
    kernel: Text | None = None
    cmdline: Cmdline | None = None
    snapshot_profile: Int | Text | None = None


class DiskCountOptions(Parameters):
    """Filters of ``hosting.disk.count``."""

    id: IntFilter | None = None
    name: TextFilter | None = None
    state: TextFilter | None = None
    size: IntFilter | None = None
    type: TextFilter | None = None
    vm_id: IntFilter | None = None
    datacenter_id: IntFilter | None = None
    source: IntFilter | None = None
    name_like: Pattern | None = Field(default=None, alias="~name")


class DiskListOptions(DiskCountOptions, Page):
    """Filters, order and page of ``hosting.disk.list``."""


_COLUMNS: Columns = {
    "id": Disk.id,
    "name": Disk.name,
    "state": Disk.state,
    "size": Disk.size,
    "type": Disk.type,
    "vm_id": Disk.vm_id,
    "datacenter_id": Disk.datacenter_id,
    "source": Disk.source_id,
}


def show(call: Call, disk: Disk) -> Struct:
    """How a disk is shown."""
    profile = next(
        (one for one in call.services.snapshot_profiles if one.id == disk.snapshot_profile_id), None
    )
    return {
        "can_snapshot": disk.type == "data",
        "datacenter_id": disk.datacenter_id,
        "date_created": disk.date_created,
        "date_updated": disk.date_updated,
        "id": disk.id,
        "is_boot_disk": disk.position == 0,
        "kernel_cmdline": disk.kernel_cmdline,
        "kernel_version": disk.kernel_version,
        "label": disk.label,
        "name": disk.name,
        "size": disk.size,
        "snapshot_profile": None if profile is None else show_profile(profile),
        "snapshot_profile_id": disk.snapshot_profile_id,
        "snapshots_id": [snapshot.id for snapshot in disk.snapshots],
        "source": disk.source_id,
        "state": disk.state,
        "total_size": disk.size + sum(snapshot.size for snapshot in disk.snapshots),
        "type": disk.type,
        "visibility": disk.visibility,
        "vms_id": [] if disk.vm_id is None else [disk.vm_id],
    }


def _visible(call: Call, opts: DiskCountOptions | None) -> Select[Disk]:
    return matching(select(Disk).where(Disk.account_id == call.account.id), opts, _COLUMNS)


@method("hosting.disk.list", "array", changes=False)
def list_(call: Call, opts: DiskListOptions | None = None) -> list[Struct]:
    """List disks."""
    with call.store.reading() as session:
        return [show(call, disk) for disk in session.scalars(paged(_visible(call, opts), opts, _COLUMNS))]


@method("hosting.disk.count", "int", changes=False)
def count(call: Call, opts: DiskCountOptions | None = None) -> int:
    """Count disks."""
    with call.store.reading() as session:
        return counted(session, _visible(call, opts))


@method("hosting.disk.info", "struct", changes=False)
def info(call: Call, disk_id: DiskId) -> Struct:
    """Get information about a disk; an image's disk may be asked for too."""
    with call.store.reading() as session:
        return show(call, source_disk(session, call, disk_id))


@method("hosting.disk.create", "struct")
def create(call: Call, disk_spec: DiskSpec) -> Struct:
    """Create an empty disk. Returns a disk_create operation."""
    with call.store.writing() as session:
        datacenter = open_datacenter(session, disk_spec.datacenter_id)
        disk = make_record(session, call, disk_spec, datacenter, None)
        return operation.accept(session, call, Planned("disk_create", disk_id=disk.id, eta=2))


@method("hosting.disk.create_from", "struct")
def create_from(call: Call, disk_spec: DiskFromSpec, src_disk_id: DiskId) -> Struct:
    """Create a disk with the content of another one; `type` "snapshot" makes a snapshot of it.

    Returns a disk_create operation.
    """
    with call.store.writing() as session:
        source = source_disk(session, call, src_disk_id)
        datacenter = open_datacenter(session, disk_spec.datacenter_id or source.datacenter_id)
        if datacenter.id != source.datacenter_id:
            raise refuse(
                Object.DISK,
                Cause.DATACENTER,
                f"disk#{source.id} is not in datacenter {datacenter.dc_code}",
                "datacenter_id",
            )
        disk = make_record(session, call, disk_spec, datacenter, source)
        claims = [] if source.account_id is None else [f"disk:{source.id}"]
        if source.vm_id is not None:
            claims.append(f"vm:{source.vm_id}")
        return operation.accept(session, call, Planned("disk_create", disk_id=disk.id, eta=2), *claims)


@method("hosting.disk.update", "struct")
def update(call: Call, disk_id: DiskId, spec: DiskUpdate) -> Struct:
    """Change a disk: its name, its size (never smaller), its kernel. Returns a disk_update operation."""
    with call.store.writing() as session:
        disk = own(session, call, Disk, disk_id)
        changes = {key for key in spec.model_fields_set if getattr(spec, key) is not None}
        if not changes:
            raise refuse(Object.DISK, Cause.NOTHING_TO_UPDATE, "there is nothing to update", "spec")
        if spec.size is not None:
            _check_size(call, spec.size)
            if spec.size < disk.size:
                raise refuse(
                    Object.DISK,
                    Cause.CANNOT_SHRINK,
                    f"size: disk#{disk.id} is {disk.size} MiB and cannot shrink",
                    "size",
                )
            quota.check_growth(session, call, disk, disk=spec.size)
        if spec.name is not None:
            disk.name = _checked_name(spec.name)
        if spec.kernel is not None:
            disk.kernel_version = _checked_kernel(spec.kernel)
        if spec.cmdline is not None:
            disk.kernel_cmdline = _parsed_cmdline(spec.cmdline)
        if spec.snapshot_profile is not None:
            disk.snapshot_profile_id = _checked_profile(call, spec.snapshot_profile)
        user = [] if disk.vm_id is None else [f"vm:{disk.vm_id}"]
        return operation.accept(session, call, Planned("disk_update", disk_id=disk.id), *user, size=spec.size)


@method("hosting.disk.delete", "struct")
def delete(call: Call, disk_id: DiskId) -> Struct:
    """Erase a disk, which must be detached. Returns a disk_delete operation."""
    with call.store.writing() as session:
        disk = own(session, call, Disk, disk_id)
        check_free(disk)
        return operation.accept(session, call, Planned("disk_delete", disk_id=disk.id))


@method("hosting.disk.migrate", "struct")
def migrate(call: Call, disk_id: DiskId, target_dc: DatacenterId) -> Struct:
    """Migrate a detached disk, with its snapshots, to another datacenter. Returns a hosting_migration_disk
    operation."""
    with call.store.writing() as session:
        disk = own(session, call, Disk, disk_id)
        target = room.other(session, disk.datacenter_id, target_dc, "target_dc")
        check_free(disk)
        if disk.type == "snapshot" and session.get(Disk, disk.source_id) is not None:
            raise refuse(
                Object.SNAPSHOT,
                Cause.INVALID,
                f"disk#{disk.id} is a snapshot: it migrates with disk#{disk.source_id}",
                "disk_id",
            )
        size = room.needed([disk])
        obstacle = room.obstacle(session, call, target, size)
        if obstacle is not None:
            raise refuse(Object.DISK, Cause.INCOMPATIBILITY, f"target_dc: {obstacle}", "target_dc")
        way = {"from_dc_id": disk.datacenter_id, "to_dc_id": target.id}
        params = {**way, "inner_step": WAIT_SYNC, "size": size}
        planned = Planned("hosting_migration_disk", disk_id=disk.id, eta=10, params=params)
        snapshots = [f"disk:{snapshot.id}" for snapshot in disk.snapshots]
        return operation.accept(session, call, planned, *snapshots, datacenter_id=target.id)


@method("hosting.disk.list_kernels", "struct", changes=False)
def list_kernels(call: Call, datacenter_id: DatacenterId) -> Struct:
    """List the kernels that a disk may be booted with, by flavour."""
    with call.store.reading() as session:
        datacenter(session, datacenter_id)
    return {flavour: list(names) for flavour, names in KERNELS.items()}


@method("hosting.disk.list_options", "struct", changes=False)
def list_options(_call: Call, kernel_version: Text) -> Struct:
    """List the options that a kernel may be given: none, because a guest boots its own."""
    _checked_kernel(kernel_version)
    return {}


def make_record(
    session: Session,
    call: Call,
    spec: Any,
    datacenter: Datacenter,
    source: Disk | None,
    default_name: str | None = None,
) -> Disk:
    """The record of a new disk by its `spec` (`DiskSpec` or alike), checked; raises faults."""
    if spec.type not in ("data", "snapshot") or (spec.type == "snapshot" and source is None):
        raise refuse(
            Object.STRING,
            Cause.BADPARAMETER,
            f"type: {spec.type[:80]!r} is not data, or snapshot with a source",
            "type",
        )
    if spec.type == "snapshot" and source is not None and source.type == "snapshot":
        raise refuse(Object.SNAPSHOT, Cause.INVALID, f"disk#{source.id} is a snapshot itself", "src_disk_id")
    # as large as the source by the time it is copied
    least = 0 if source is None else coming_size(session, source)
    size = spec.size if spec.size is not None else least or _DEFAULT_SIZE
    _check_size(call, size)
    if size < least:
        raise refuse(
            Object.DISK, Cause.SIZE, f"size: {size} MiB is less than the {least} MiB of its source", "size"
        )
    name = spec.name
    if name is None:
        name = default_name or f"disk_{int(time.time())}"
    quota.check(session, call, disk=size)
    inherited = source if source is not None else Disk()
    disk = Disk(
        account_id=call.account.id,
        datacenter_id=datacenter.id,
        name=_checked_name(name),
        size=size,
        type=spec.type,
        label=inherited.label,
        source_id=inherited.id,
        kernel_version=inherited.kernel_version if spec.kernel is None else _checked_kernel(spec.kernel),
        kernel_cmdline=inherited.kernel_cmdline if spec.cmdline is None else _parsed_cmdline(spec.cmdline),
        snapshot_profile_id=None
        if spec.snapshot_profile is None
        else _checked_profile(call, spec.snapshot_profile),
        volume="",
    )
    session.add(disk)
    session.flush()
    disk.volume = volume_name(disk)
    session.flush()
    return disk


def _check_size(call: Call, size: int) -> None:
    if size < _SIZE_STEP or size % _SIZE_STEP:
        raise refuse(
            Object.DISK, Cause.SIZE, f"size: {size} is not a positive multiple of {_SIZE_STEP} (MiB)", "size"
        )
    if size > call.limits.disk_size:
        most = call.limits.disk_size
        raise refuse(Object.DISK, Cause.SIZE, f"size: {size} is more than the limit of {most} (MiB)", "size")


def _checked_name(name: str) -> str:
    if not 0 < len(name) <= 255 or not name.isprintable():
        raise refuse(Object.DISK, Cause.NAME, "name: use 1 to 255 printable characters", "name")
    return name


def _checked_kernel(kernel: str) -> str:
    if not any(kernel in names for names in KERNELS.values()):
        raise refuse(
            Object.DISK,
            Cause.NO_KERNEL,
            f"kernel: {kernel[:80]!r} is not one of hosting.disk.list_kernels",
            "kernel",
        )
    return kernel


def _parsed_cmdline(cmdline: str | dict[str, str | bool]) -> dict[str, Any]:
    if isinstance(cmdline, dict):
        return cmdline
    words = (word.partition("=") for word in cmdline.split())
    return {key: value if equals else True for key, equals, value in words}


def _checked_profile(call: Call, profile: int | str) -> int | None:
    if profile == "":
        return None
    if not any(profile == known.id for known in call.services.snapshot_profiles):
        raise not_found(Object.SNAPSHOT_PROFILE, profile if isinstance(profile, int) else 0)
    return int(profile)


def snapshot_of(session: Session, call: Call, snapshot_id: int) -> tuple[Disk, Disk]:
    """A snapshot of the caller's and the disk that it is of; raises faults."""
    snapshot = own(session, call, Disk, snapshot_id)
    if snapshot.type != "snapshot" or snapshot.source_id is None:
        raise refuse(Object.SNAPSHOT, Cause.INVALID, f"disk#{snapshot.id} is not a snapshot", "snapshot_id")
    return snapshot, own(session, call, Disk, snapshot.source_id)


@method("hosting.disk.rollback_from", "struct")
def rollback_from(call: Call, snapshot_id: SnapshotId) -> Struct:
    """Put a detached disk back to what its snapshot holds. Returns a disk_rollback_from operation."""
    with call.store.writing() as session:
        snapshot, disk = snapshot_of(session, call, snapshot_id)
        if disk.vm_id is not None:
            raise refuse(
                Object.DISK,
                Cause.ATTACHED,
                f"disk#{disk.id} associated with snapshot#{snapshot.id} is attached",
                "snapshot_id",
            )
        quota.check_growth(session, call, disk, disk=coming_size(session, snapshot))
        return operation.accept(
            session,
            call,
            Planned("disk_rollback_from", disk_id=disk.id, eta=2, params={"snapshot_id": snapshot.id}),
            f"disk:{snapshot.id}",
            snapshot_id=snapshot.id,
            new_volume=volume_name(disk),
        )
