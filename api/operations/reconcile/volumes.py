"""Disks, images and seeds, and their volumes. What may hold a guest's data is only told of."""

from collections.abc import Iterator, Sequence
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.operations import blueprint, image
from api.operations.backend import Backend
from api.operations.disk import named
from api.operations.reconcile.finding import Finding
from api.operations.survey import Place
from api.store.models import Disk, Vm
from hypervisor.storage import volume


def compare(session: Session, place: Place) -> Iterator[Finding]:
    """The volumes of one datacenter's pool."""
    here = select(Disk).where(Disk.datacenter_id == place.datacenter.id).order_by(Disk.id)
    disks = session.scalars(here).all()
    yield from _records(place, disks)
    recorded = {disk.volume for disk in disks}
    for name in sorted(place.volumes.keys() - recorded):
        found = _disk(session, place, name) or _image(place, name) or _seed(session, place, name)
        if found is not None:
            yield found


def _records(place: Place, disks: Sequence[Disk]) -> Iterator[Finding]:
    for disk in disks:
        about = f"disk:{disk.id}"
        if disk.state != "created":
            yield Finding(about, f"disk#{disk.id} is {disk.state}, and no operation is at it; delete it")
        elif disk.volume not in place.volumes:
            what = f"the volume {disk.volume} of disk#{disk.id} is missing"
            yield Finding(about, f"{what}; put it back into {place.folder}, or delete the disk")
        elif disk.account_id is None and image.description_of(disk.volume) not in place.volumes:
            yield Finding(
                about,
                f"the image {disk.label!r} of {place.datacenter.dc_code} is not described in its pool",
                "describes it",
                partial(_describe, datacenter_id=place.datacenter.id),
            )


def _disk(session: Session, place: Place, name: str) -> Finding | None:
    told = named(name)
    if told is None:
        return None
    owner = session.get(Disk, told.id)
    what = f"the volume {place.folder / name} "
    if owner is None:
        what += f"is of no disk (disk#{told.id}, by its name)"
    else:
        what += f"is named for disk#{told.id}, whose volume is another one"
    return Finding(f"disk:{told.id}", f"{what}, and may hold a guest's data; remove it with virsh vol-delete")


def _image(place: Place, name: str) -> Finding | None:
    about = f"image:{name}"
    if image.VOLUME.fullmatch(name):
        path = place.volumes[name].path
        over = sum(one.base == path for one in place.volumes.values())
        what = f"the volume {path} is of no image"
        return Finding(about, f"{what}, and {over} volumes are laid over it" if over else what)
    if image.DESCRIPTION.fullmatch(name) and name.replace(".json", ".qcow2") not in place.volumes:
        return Finding(
            about,
            f"the volume {place.volumes[name].path} describes an image that is not there",
            "removes it",
            partial(_delete, place=place, name=name),
        )
    return None


def _seed(session: Session, place: Place, name: str) -> Finding | None:
    match = blueprint.SEED_VOLUME.fullmatch(name)
    if match is None:
        return None
    vm = session.get(Vm, int(match["vm"]))
    living = vm if vm is not None and vm.state != "deleted" else None
    if living and living.datacenter_id == place.datacenter.id and blueprint.seed_volume(living) == name:
        return None
    path = place.volumes[name].path
    if any(disk.path == path for seen in place.domains.values() for disk in seen.defined.disks):
        return None  # the domain is told of
    return Finding(
        f"vm:{match['vm']}",
        f"the volume {path} is the seed of no VM",
        "removes it",
        partial(_delete, place=place, name=name),
    )


def _describe(backend: Backend, datacenter_id: int) -> None:
    image.describe(backend.store, backend.hosts, datacenter_id)


def _delete(_backend: Backend, place: Place, name: str) -> None:
    volume.delete(place.handle, place.datacenter.pool, name)
