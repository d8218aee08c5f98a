"""qcow2 volumes: empty ones, overlays on a base, full copies, uploads.

A volume's name is chosen by the caller and unique to the object that it is made for: when it exists
already it is what an interrupted attempt left, and is made anew.
"""

import contextlib
from pathlib import Path

import libvirt
from lxml import etree
from lxml.builder import E

from hypervisor.libvirt_errors import NoVolume, explained
from hypervisor.storage import pool_lock
from hypervisor.storage.pool import lookup as lookup_pool

_MIB = 2**20
_CHUNK = 2**20


def _render(name: str, size: int, form: str = "qcow2", base: Path | None = None) -> str:
    volume = E.volume(
        E.name(name),
        E.capacity(str(size), unit="bytes"),
        E.target(E.format(type=form), E.permissions(E.mode("0600"))),
    )
    if form == "qcow2":
        volume.append(E.allocation("0", unit="bytes"))
    if base is not None:
        # the format of a base is always named: guessing it from its content is a way into the host's files
        volume.append(E.backingStore(E.path(str(base)), E.format(type="qcow2")))
    return etree.tostring(volume, encoding="unicode")


def _find(pool: libvirt.virStoragePool, name: str) -> libvirt.virStorageVol:
    with explained(f"volume {name}"):
        return pool.storageVolLookupByName(name)


def path(connection: libvirt.virConnect, pool: str, name: str) -> Path:
    """Where the volume is on the host; raises `NoVolume`."""
    volume = _find(lookup_pool(connection, pool), name)
    with explained(f"path of volume {name}"):
        return Path(volume.path())


def capacity(connection: libvirt.virConnect, pool: str, name: str) -> int:
    """The size that a guest sees, in MiB; raises `NoVolume`."""
    volume = _find(lookup_pool(connection, pool), name)
    with explained(f"size of volume {name}"):
        return int(volume.info()[1] // _MIB)


def _create(
    connection: libvirt.virConnect, pool: str, xml: str, name: str, source: Path | None = None
) -> Path:
    with pool_lock(pool):
        handle = lookup_pool(connection, pool)
        with contextlib.suppress(NoVolume):
            leftover = _find(handle, name)
            with explained(f"removal of the unfinished volume {name}"):
                leftover.delete()
        with explained(f"creation of volume {name} in pool {pool}"):
            if source is None:
                return Path(handle.createXML(xml).path())
            return Path(handle.createXMLFrom(xml, connection.storageVolLookupByPath(str(source))).path())


def create_empty(connection: libvirt.virConnect, pool: str, name: str, size: int) -> Path:
    """An empty volume of `size` MiB; returns its path."""
    return _create(connection, pool, _render(name, size * _MIB), name)


def create_overlay(connection: libvirt.virConnect, pool: str, name: str, size: int, base: Path) -> Path:
    """A volume of `size` MiB that begins as `base`, a read-only qcow2 volume, and keeps only what is
    changed."""
    return _create(connection, pool, _render(name, size * _MIB, base=base), name)


def create_copy(connection: libvirt.virConnect, pool: str, name: str, size: int, source: Path) -> Path:
    """A full, independent copy of the volume at `source`, of `size` MiB (at least the source's)."""
    target = _create(connection, pool, _render(name, size * _MIB), name, source)
    resize(connection, pool, name, size)
    return target


def resize(connection: libvirt.virConnect, pool: str, name: str, size: int) -> None:
    """Grow the volume to `size` MiB; does nothing when it is that large. No guest may have it open."""
    with pool_lock(pool):
        volume = _find(lookup_pool(connection, pool), name)
        with explained(f"resize of volume {name}"):
            if volume.info()[1] < size * _MIB:
                volume.resize(size * _MIB)


def upload(connection: libvirt.virConnect, pool: str, name: str, content: Path | bytes, form: str) -> Path:
    """A volume with `content` as it is: a file or bytes of a disk image in format `form`."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    created = _create(connection, pool, _render(name, size, "raw"), name)
    volume = _find(lookup_pool(connection, pool), name)
    with pool_lock(pool), explained(f"upload of volume {name}"):
        stream = connection.newStream()
        try:
            volume.upload(stream, 0, size)
            if isinstance(content, bytes):
                for start in range(0, size, _CHUNK):
                    _send(stream, content[start : start + _CHUNK])
            else:
                with content.open("rb") as file:
                    while chunk := file.read(_CHUNK):
                        _send(stream, chunk)
            stream.finish()
        except BaseException:
            with contextlib.suppress(libvirt.libvirtError):
                stream.abort()
            raise
    if form != "raw":
        # the pool still takes it for raw: let it read the file's header
        with pool_lock(pool), explained(f"refresh of storage pool {pool}"):
            lookup_pool(connection, pool).refresh()
    return created


def _send(stream: libvirt.virStream, chunk: bytes) -> None:
    sent = 0
    while sent < len(chunk):
        sent += stream.send(chunk[sent:])


def delete(connection: libvirt.virConnect, pool: str, name: str) -> None:
    """Remove the volume, unless it is gone."""
    with pool_lock(pool), contextlib.suppress(NoVolume):
        volume = _find(lookup_pool(connection, pool), name)
        with explained(f"removal of volume {name}"):
            volume.delete()
