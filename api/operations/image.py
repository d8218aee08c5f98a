"""Images: one base volume in every datacenter's pool, and the records that offer it."""

import json
import logging
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select, true

from api.operations.hosts import Hosts
from api.store.database import Store
from api.store.models import Datacenter, Disk, Image
from api.store.plain import plain
from hypervisor.errors import HypervisorError
from hypervisor.image.convert import as_qcow2
from hypervisor.image.progress import Progress, silent
from hypervisor.storage import pool, volume

log = logging.getLogger(__name__)

VOLUME = re.compile(r"image-[0-9a-f]{8}\.qcow2")
"""The names of the images' volumes."""
DESCRIPTION = re.compile(r"image-[0-9a-f]{8}\.json")
"""The names of the volumes that describe them."""

_STEP = 1024  # MiB: disks are made in steps of it


class ImageExists(HypervisorError):
    """There is an image of that label already."""


def install(
    store: Store,
    hosts: Hosts,
    file: Path,
    labels: Sequence[str],
    folder: Path,
    progress: Progress = silent,
    *,
    only: int | None = None,
) -> list[int]:
    """Offer the disk image `file` as `labels` in every datacenter, or in the one with the id `only`; returns
    the ids of the images.

    `folder` has room for a converted copy.

    Raises `ImageExists`, `hypervisor.image.errors.ImageError` for a file that is no self-contained image, and
    `HypervisorError` when it cannot be stored; nothing is left then.
    """
    with store.reading() as session:
        datacenters = session.scalars(
            select(Datacenter)
            .where(true() if only is None else Datacenter.id == only)
            .order_by(Datacenter.id)
        ).all()
        there = Image.datacenter_id.in_([datacenter.id for datacenter in datacenters])
        taken = session.scalars(select(Image.label).where(Image.label.in_(labels), there)).first()
    if taken is not None:
        raise ImageExists(f"there is an image with the label {taken!r}: choose another one")
    progress("unpacking", 0.0)
    with as_qcow2(file, folder) as (image, size):
        rounded = -(-size // (_STEP * 2**20)) * _STEP
        made = _store(store, hosts, image, rounded, labels, datacenters, progress)
    for datacenter in datacenters:
        describe(store, hosts, datacenter.id)
    return made


def describe(store: Store, hosts: Hosts, datacenter_id: int) -> None:
    """Write what the records say of the datacenter's images beside those that have it not, should the records
    be lost. A failure is logged: the images are of use without it."""
    with store.reading() as session:
        datacenter = session.get_one(Datacenter, datacenter_id)
        disks = session.scalars(
            select(Disk).where(Disk.datacenter_id == datacenter_id, Disk.account_id.is_(None))
        ).all()
        images = session.scalars(select(Image).where(Image.datacenter_id == datacenter_id)).all()
    try:
        handle = hosts.handle(datacenter_id)
        there = set(pool.volumes(handle, datacenter.pool))
        for disk in disks:
            document = {
                "version": 1,
                "datacenter": {"id": datacenter.id, "dc_code": datacenter.dc_code},
                "disk": plain(disk),
                "images": [plain(image) for image in images if image.disk_id == disk.id],
            }
            name = description_of(disk.volume)
            if name not in there:
                volume.upload(handle, datacenter.pool, name, json.dumps(document).encode(), "raw")
    except HypervisorError as error:
        log.warning("the images in %s are not described: %s", datacenter.dc_code, error)


def description_of(volume_name: str) -> str:
    """The name of the volume with what the records say of the image in another one."""
    return f"{volume_name.removesuffix('.qcow2')}.json"


def _store(
    store: Store,
    hosts: Hosts,
    file: Path,
    size: int,
    labels: Sequence[str],
    datacenters: Sequence[Datacenter],
    progress: Progress,
) -> list[int]:
    name = f"image-{secrets.token_hex(4)}.qcow2"
    made: list[Datacenter] = []
    try:
        for number, datacenter in enumerate(datacenters):
            progress(f"storing in {datacenter.dc_code}", number / len(datacenters))
            handle = hosts.handle(datacenter.id)
            made.append(datacenter)
            volume.upload(handle, datacenter.pool, name, file, "qcow2")
        progress("recording", 1.0)
        with store.writing() as session:
            images = []
            for datacenter in datacenters:
                disk = Disk(
                    datacenter_id=datacenter.id,
                    name=labels[0],
                    size=size,
                    state="created",
                    visibility="all",
                    label=labels[0],
                    kernel_version="raw",
                    volume=name,
                )
                session.add(disk)
                session.flush()
                images += [
                    Image(datacenter_id=datacenter.id, disk_id=disk.id, label=label) for label in labels
                ]
            session.add_all(images)
            session.flush()
            return [image.id for image in images]
    except BaseException:
        for datacenter in made:
            volume.delete(hosts.handle(datacenter.id), datacenter.pool, name)
        raise
