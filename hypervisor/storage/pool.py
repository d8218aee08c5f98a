"""Storage pools of kind ``dir`` (https://libvirt.org/formatstorage.html)."""

from pathlib import Path

import libvirt
from lxml import etree
from lxml.builder import E

from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import explained
from hypervisor.storage import pool_lock


def ensure(connection: libvirt.virConnect, name: str, path: Path) -> None:
    """Define the pool `name` over the folder `path`, make the folder, and start it; does nothing when it
    runs.

    Raises `HypervisorError` when a pool of that name keeps its volumes elsewhere: it is not ours.
    """
    with pool_lock(name), explained(f"storage pool {name}"):
        try:
            pool = connection.storagePoolLookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise
            pool = connection.storagePoolDefineXML(_render(name, path))
            pool.build()
        target = etree.fromstring(pool.XMLDesc().encode()).findtext("target/path")
        if target != str(path):
            raise HypervisorError(
                f"the storage pool {name} exists and is kept in {target}, not in {path}: "
                "give the datacenter another pool name in the settings"
            )
        if not pool.isActive():
            pool.create()
        pool.setAutostart(1)


def _render(name: str, path: Path) -> str:
    # every daemon's user may pass through the folder, only its owner may list it
    pool = E.pool(E.name(name), E.target(E.path(str(path)), E.permissions(E.mode("0711"))), type="dir")
    return etree.tostring(pool, encoding="unicode")


def lookup(connection: libvirt.virConnect, name: str) -> libvirt.virStoragePool:
    """The pool's handle."""
    with explained(f"storage pool {name}"):
        return connection.storagePoolLookupByName(name)


def free(connection: libvirt.virConnect, name: str) -> int:
    """Free space in the pool, in MiB."""
    with pool_lock(name), explained(f"storage pool {name}"):
        pool = connection.storagePoolLookupByName(name)
        pool.refresh()
        return int(pool.info()[3] // 2**20)


def volumes(connection: libvirt.virConnect, name: str) -> list[str]:
    """The names of the pool's volumes."""
    pool = lookup(connection, name)
    with explained(f"volumes of storage pool {name}"):
        return sorted(volume.name() for volume in pool.listAllVolumes())
