"""What is in a storage pool, and what is in a small volume."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import libvirt
from lxml import etree

from hypervisor.libvirt_errors import NoVolume, explained
from hypervisor.storage import pool

_MIB = 2**20
_CHUNK = 2**16


@dataclass(frozen=True, slots=True)
class Found:
    """A volume: its path, the size in MiB that a guest sees, rounded up, the file that it is laid over."""

    name: str
    path: Path
    size: int
    base: Path | None


def volumes(connection: libvirt.virConnect, name: str) -> dict[str, Found]:
    """The volumes that are in the pool's folder now, by name. Waits for one that is being made; raises
    `LibvirtError`."""
    pool.refresh(connection, name)
    found = {}
    with explained(f"volumes of storage pool {name}"):
        for volume in pool.lookup(connection, name).listAllVolumes():
            # it may be removed meanwhile
            with contextlib.suppress(NoVolume), explained(f"a volume of storage pool {name}"):
                root = etree.fromstring(volume.XMLDesc().encode())
                base = root.findtext("backingStore/path")
                found[volume.name()] = Found(
                    name=volume.name(),
                    path=Path(volume.path()),
                    size=-(-int(root.findtext("capacity") or 0) // _MIB),
                    base=None if base is None else Path(base),
                )
    return found


def content(connection: libvirt.virConnect, name: str, volume: str) -> bytes:
    """The bytes of a small volume; raises `NoVolume`, `LibvirtError`."""
    handle = pool.lookup(connection, name)
    read = bytearray()
    with explained(f"content of volume {volume}"):
        stream = connection.newStream()
        try:
            handle.storageVolLookupByName(volume).download(stream, 0, 0)
            while chunk := stream.recv(_CHUNK):
                read += chunk
            stream.finish()
        except BaseException:
            with contextlib.suppress(libvirt.libvirtError):
                stream.abort()
            raise
    return bytes(read)


def folder(connection: libvirt.virConnect, name: str) -> Path:
    """Where the pool keeps its volumes."""
    handle = pool.lookup(connection, name)
    with explained(f"folder of storage pool {name}"):
        return Path(pool.folder(handle))
