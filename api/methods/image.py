"""The namespace ``hosting.image``: system disks to create from."""

from sqlalchemy import Integer, Select, literal, select
from sqlalchemy.orm import contains_eager

from api.methods.call import Call, Struct
from api.methods.faults import Object, not_found
from api.methods.filters import Columns, IntFilter, Page, TextFilter, matching, paged
from api.methods.ids import ImageId
from api.methods.parameters import Date
from api.methods.table import method
from api.store.models import Disk, Image

# images come from the host's administrator, who has no account
_AUTHOR = 0

COLUMNS: Columns = {
    "id": Image.id,
    "datacenter_id": Image.datacenter_id,
    "disk_id": Image.disk_id,
    "label": Image.label,
    "os_arch": Image.os_arch,
    "kernel_version": Image.kernel_version,
    "visibility": Image.visibility,
    "size": Disk.size,
    "author_id": literal(_AUTHOR, Integer),
    "date_created": Image.date_created,
    "date_updated": Image.date_updated,
}


class ImageListOptions(Page):
    """Which images, and which page of them."""

    id: IntFilter | None = None
    datacenter_id: IntFilter | None = None
    disk_id: IntFilter | None = None
    label: TextFilter | None = None
    os_arch: TextFilter | None = None
    kernel_version: TextFilter | None = None
    visibility: TextFilter | None = None
    size: IntFilter | None = None
    author_id: IntFilter | None = None
    date_created: Date | None = None
    date_updated: Date | None = None


def show(record: Image) -> Struct:
    """ImageReturn; `size` in MiB."""
    return {
        "id": record.id,
        "datacenter_id": record.datacenter_id,
        "disk_id": record.disk_id,
        "label": record.label,
        "os_arch": record.os_arch,
        "kernel_version": record.kernel_version,
        "visibility": record.visibility,
        "size": record.disk.size,
        "author_id": _AUTHOR,
        "date_created": record.date_created,
        "date_updated": record.date_updated,
    }


def _images() -> Select[Image]:
    return select(Image).join(Image.disk).options(contains_eager(Image.disk))


@method("hosting.image.list", returns="array", changes=False)
def list_(call: Call, opts: ImageListOptions | None = None) -> list[Struct]:
    """List the images that a system disk can be created from."""
    query = paged(matching(_images(), opts, COLUMNS), opts, COLUMNS)
    with call.store.reading() as session:
        return [show(record) for record in session.scalars(query)]


@method("hosting.image.info", returns="struct", changes=False)
def info(call: Call, image_id: ImageId) -> Struct:
    """Get information about an image."""
    with call.store.reading() as session:
        record = session.scalar(_images().where(Image.id == image_id))
        if record is None:
            raise not_found(Object.IMAGE, image_id)
        return show(record)
