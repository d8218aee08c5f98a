"""qcow2 volumes: empty ones, overlays on a base, full copies, uploads.

A volume's name is chosen by the caller and unique to the object that it is made for: when it exists
already it is what an interrupted attempt left, and is made anew. What fails leaves nothing behind.
"""

import contextlib
import time
from pathlib import Path

import libvirt
from lxml import etree
from lxml.builder import E

from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import LibvirtError, NoVolume, explained
from hypervisor.storage import content as contents
from hypervisor.storage.pool import folder, refresh
from hypervisor.storage.pool import lookup as lookup_pool

_MIB = 2**20
# in seconds: libvirt finishes a volume although the service that asked for it was killed
_BUSY_PATIENCE, _BUSY_PAUSE = 600.0, 0.1


def _render(name: str, size: int, form: str = "qcow2", base: tuple[Path, str] | None = None) -> str:
    if not name.isprintable() or "/" in name or name in ("", ".", ".."):
        raise HypervisorError(f"{name!r} is no name for a volume: it must be printable, without a slash")
    target = E.target(E.format(type=form), E.permissions(E.mode("0600")))
    volume = E.volume(
        E.name(name), E.capacity(str(size), unit="bytes"), E.allocation("0", unit="bytes"), target
    )
    if form == "qcow2":
        # libvirt's default is the format of QEMU before 1.1, in which an overlay cannot give space back
        target.append(E.compat("1.1"))
    if base is not None:
        # the format of a base is always named: guessing it from its content is a way into the host's files
        volume.append(E.backingStore(E.path(str(base[0])), E.format(type=base[1])))
    return etree.tostring(volume, encoding="unicode")


def _find(connection: libvirt.virConnect, pool: str, name: str) -> libvirt.virStorageVol:
    handle = lookup_pool(connection, pool)
    with explained(f"volume {name} in pool {pool}"):
        return handle.storageVolLookupByName(name)


def path(connection: libvirt.virConnect, pool: str, name: str) -> Path:
    """Where the volume is on the host; raises `NoVolume`."""
    return _path(_find(connection, pool, name), name)


def place(connection: libvirt.virConnect, pool: str, name: str) -> Path:
    """Where a volume of that name is on the host, or would be, whether the pool runs or not."""
    handle = lookup_pool(connection, pool)
    with explained(f"folder of storage pool {pool}"):
        return Path(folder(handle)) / name


def _path(volume: libvirt.virStorageVol, name: str) -> Path:
    with explained(f"path of volume {name}"):
        return Path(volume.path())


def capacity(connection: libvirt.virConnect, pool: str, name: str) -> int:
    """The size that a guest sees, in MiB; raises `NoVolume`."""
    volume = _find(connection, pool, name)
    with explained(f"size of volume {name}"):
        return int(volume.info()[1] // _MIB)


def _create(
    connection: libvirt.virConnect, pool: str, xml: str, name: str, source: Path | None = None
) -> libvirt.virStorageVol:
    delete(connection, pool, name)
    try:
        return _make(connection, pool, xml, name, source)
    except LibvirtError as error:
        if error.code != libvirt.VIR_ERR_OPERATION_INVALID:
            raise
    # a file of that name is there which the pool has not seen: a libvirtd that died while making it left it
    refresh(connection, pool)
    delete(connection, pool, name)
    return _make(connection, pool, xml, name, source)


def _make(
    connection: libvirt.virConnect, pool: str, xml: str, name: str, source: Path | None
) -> libvirt.virStorageVol:
    handle = lookup_pool(connection, pool)
    with explained(f"creation of volume {name} in pool {pool}"):
        if source is None:
            return handle.createXML(xml)
        return handle.createXMLFrom(xml, connection.storageVolLookupByPath(str(source)))


def create_empty(connection: libvirt.virConnect, pool: str, name: str, size: int) -> Path:
    """An empty volume of `size` MiB; returns its path."""
    return _path(_create(connection, pool, _render(name, size * _MIB), name), name)


def create_twin(
    connection: libvirt.virConnect, pool: str, name: str, form: str, source_pool: str, source: str
) -> Path:
    """A volume of the size and for the content of another one, in format `form`; returns its path.

    Raises `NoVolume` when the other one does not exist.
    """
    twin = _find(connection, source_pool, source)
    with explained(f"size of volume {source}"):
        size = int(twin.info()[1])
    return _path(_create(connection, pool, _render(name, size, form), name), name)


def create_room(connection: libvirt.virConnect, pool: str, name: str, length: int) -> libvirt.virStorageVol:
    """A file of `length` bytes that takes no space yet, for an image of whatever format; libvirt sees which
    one when the pool is refreshed."""
    return _create(connection, pool, _render(name, length, "raw"), name)


def create_overlay(connection: libvirt.virConnect, pool: str, name: str, size: int, base: Path) -> Path:
    """A volume of `size` MiB that begins as `base`, a volume that nobody writes to, and keeps only what is
    changed.

    Raises `HypervisorError` when `base` is larger than `size`: its end would be missing; or damaged.
    """
    with explained(f"base {base} of volume {name}"):
        described = etree.fromstring(connection.storageVolLookupByPath(str(base)).XMLDesc().encode())
    element = described.find("target/format")
    form = "qcow2" if element is None else element.get("type", "qcow2")
    if base.suffix == ".qcow2" and form != "qcow2":
        raise HypervisorError(f"{base} is damaged: it is no qcow2 image any more; store it anew")
    least = -(-int(described.findtext("capacity") or 0) // _MIB)
    if size < least:
        raise HypervisorError(f"{name}: {size} MiB are too small for its base, which needs {least} MiB")
    xml = _render(name, size * _MIB, base=(base, form))
    return _path(_create(connection, pool, xml, name), name)


def create_copy(
    connection: libvirt.virConnect, pool: str, name: str, size: int, source: Path, form: str = "qcow2"
) -> Path:
    """A full, independent copy of the volume at `source`, of `size` MiB (at least the source's), in format
    `form`.

    No guest may have `source` open for writing.
    """
    volume = _create(connection, pool, _render(name, size * _MIB, form), name, source)
    resize(connection, pool, name, size)
    return _path(volume, name)


def resize(connection: libvirt.virConnect, pool: str, name: str, size: int) -> None:
    """Grow the volume to `size` MiB; does nothing when it is that large. No guest may have it open."""
    volume = _find(connection, pool, name)
    with explained(f"resize of volume {name}"):
        if volume.info()[1] < size * _MIB:
            volume.resize(size * _MIB)


def upload(connection: libvirt.virConnect, pool: str, name: str, content: Path | bytes, form: str) -> Path:
    """A volume with `content` as it is: a file or bytes of a disk image in format `form`, ``raw`` or
    ``qcow2``.

    Raises `HypervisorError` when `content` cannot be read or is no such image, `LibvirtError` when it cannot
    be stored.
    """
    try:
        size = contents.virtual_size(content, form)
        volume = _create(connection, pool, _render(name, size, form), name)
        with explained(f"upload of volume {name}"):
            try:
                if form == "qcow2" or not contents.write(connection, volume, content):
                    contents.send(connection, volume, content, form)
            except BaseException:
                with contextlib.suppress(HypervisorError):
                    delete(connection, pool, name)
                raise
            return Path(volume.path())
    except OSError as error:
        raise HypervisorError(f"upload of volume {name}: {error}") from error


def delete(connection: libvirt.virConnect, pool: str, name: str) -> None:
    """Remove the volume, unless it is gone; waits for one that libvirt is still making."""
    deadline = time.monotonic() + _BUSY_PATIENCE
    with contextlib.suppress(NoVolume):
        # ends when the lookup finds nothing
        while True:
            volume = _find(connection, pool, name)
            try:
                with explained(f"removal of volume {name}"):
                    volume.delete()
            except LibvirtError as error:
                if error.code != libvirt.VIR_ERR_OPERATION_INVALID or time.monotonic() > deadline:
                    raise
                time.sleep(_BUSY_PAUSE)
