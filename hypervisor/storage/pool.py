"""Storage pools of kind ``dir`` (https://libvirt.org/formatstorage.html)."""

import os
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import libvirt
from lxml import etree
from lxml.builder import E

from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import LibvirtError, explained

# in seconds: how long another's work on a pool is waited for, and how often it is looked at
_BUSY_PATIENCE, _BUSY_PAUSE = 60.0, 0.05
_ensuring = threading.Lock()


@dataclass(frozen=True, slots=True)
class Room:
    """Whether volumes can be made in a pool now, and the space that is free there, in MiB."""

    active: bool
    free: int


def ensure(connection: libvirt.virConnect, name: str, path: Path) -> None:
    """Define the pool `name` over the folder `path`, make the folder, and start it; does nothing when it
    runs.

    Raises `HypervisorError` when a pool of that name keeps its volumes elsewhere: it is not ours.
    """
    xml = _render(name, path)
    with _ensuring, explained(f"storage pool {name}"):
        try:
            pool = connection.storagePoolLookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise
            pool = connection.storagePoolDefineXML(xml)
        target = folder(pool)
        if target != str(path):
            raise HypervisorError(
                f"the storage pool {name} exists and is kept in {target}, not in {path}: "
                "give the datacenter another pool name in the settings"
            )
        if not pool.isActive():
            _activate(pool)
        pool.setAutostart(1)


def _activate(pool: libvirt.virStoragePool) -> None:
    try:
        pool.create()
    except libvirt.libvirtError:
        # the folder is not there; one that is there keeps its owner and mode
        pool.build()
        pool.create()


def make_folder(connection: libvirt.virConnect, path: Path) -> None:
    """Make a folder on libvirt's host, unless it is there; by way of a pool, which does not stay."""
    xml = _render(f"folder-{uuid.uuid4()}", path)
    with _ensuring, explained(f"folder {path}"):
        connection.storagePoolCreateXML(xml, libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD).destroy()


def _render(name: str, path: Path) -> str:
    if not str(path).isprintable() or not path.is_absolute():
        raise HypervisorError(
            f"{str(path)!r} is no place for a storage pool: give an absolute, printable path"
        )
    # every daemon's user may pass through the folder, only its owner may list it
    pool = E.pool(E.name(name), E.target(E.path(str(path)), E.permissions(E.mode("0711"))), type="dir")
    return etree.tostring(pool, encoding="unicode")


def lookup(connection: libvirt.virConnect, name: str) -> libvirt.virStoragePool:
    """The pool's handle."""
    with explained(f"storage pool {name}"):
        return connection.storagePoolLookupByName(name)


def folder(pool: libvirt.virStoragePool) -> str:
    """The folder of the pool, which may be stopped; raises `libvirt.libvirtError`."""
    return etree.fromstring(pool.XMLDesc().encode()).findtext("target/path") or ""


def refresh(connection: libvirt.virConnect, name: str) -> None:
    """Let libvirt look at the pool's folder anew, which takes 0.1 ms for each file in it.

    Waits until no volume is being made there; raises `LibvirtError` when that takes longer than a minute.
    """
    deadline = time.monotonic() + _BUSY_PATIENCE
    with explained(f"refresh of storage pool {name}"):
        pool = connection.storagePoolLookupByName(name)
        while True:
            try:
                pool.refresh()
            except libvirt.libvirtError as error:
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_BUSY_PAUSE)
            else:
                return


def _is_busy(error: libvirt.libvirtError) -> bool:
    # "pool has asynchronous jobs running": it has no code of its own
    return bool(error.get_error_code() == libvirt.VIR_ERR_INTERNAL_ERROR)


def free(connection: libvirt.virConnect, name: str) -> int:
    """Free space in the pool, in MiB; while volumes are being made, as libvirt reckoned it last."""
    with explained(f"storage pool {name}"):
        pool = connection.storagePoolLookupByName(name)
        try:
            pool.refresh()
        except libvirt.libvirtError as error:
            if not _is_busy(error):
                raise
        return int(pool.info()[3] // 2**20)


def room(connection: libvirt.virConnect, name: str) -> Room:
    """What can be made in the pool; nothing in one that is not active, not defined, or out of order.

    Takes 0.5 ms where libvirt is on this host; elsewhere libvirt must read the pool anew (see `free`).
    Raises `Unavailable`.
    """
    try:
        pool = lookup(connection, name)
        with explained(f"storage pool {name}"):
            if not pool.isActive():
                return Room(active=False, free=0)
            seen = _seen(connection, pool)
        return Room(active=True, free=free(connection, name) if seen is None else seen)
    except LibvirtError:
        return Room(active=False, free=0)


def _seen(connection: libvirt.virConnect, pool: libvirt.virStoragePool) -> int | None:
    """The space free in the pool's folder, in MiB, when that is within reach."""
    if urlsplit(connection.getURI()).hostname:
        return None
    try:
        found = os.statvfs(folder(pool))
    except OSError:
        return None
    # libvirt may be in another file system than the service: one of another size cannot be the same
    if found.f_blocks * found.f_frsize != pool.info()[1]:
        return None
    return found.f_bfree * found.f_frsize // 2**20


def start(connection: libvirt.virConnect, name: str) -> None:
    """Start the pool, unless it is active; raises `HypervisorError`."""
    pool = lookup(connection, name)
    with explained(f"storage pool {name}"):
        if pool.isActive():
            return
        try:
            pool.create()
        except libvirt.libvirtError as error:
            if pool.isActive():  # by somebody else meanwhile
                return
            raise HypervisorError(
                f"storage pool {name} does not start ({error.get_error_message()}): "
                f"see that {folder(pool)} is there and mounted, then run virsh pool-start {name}"
            ) from error


def volumes(connection: libvirt.virConnect, name: str) -> list[str]:
    """The names of the pool's volumes."""
    pool = lookup(connection, name)
    with explained(f"volumes of storage pool {name}"):
        return sorted(volume.name() for volume in pool.listAllVolumes())
