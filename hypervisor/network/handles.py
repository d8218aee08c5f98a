"""Handles of libvirt for a network and its folder of reservations."""

import threading
from collections import defaultdict

import libvirt
from lxml import etree
from lxml.builder import E

from hypervisor.libvirt_errors import explained
from hypervisor.network.errors import ForeignNetwork, NoAddresses, NoNetwork
from hypervisor.network.spec import NetworkSpec, uuid_of
from hypervisor.network.xml import parse

_locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)


def network_lock(name: str) -> threading.RLock:
    """The lock of everything that changes the network `name` and its reservations in this process."""
    return _locks[name]


def find(connection: libvirt.virConnect, name: str) -> libvirt.virNetwork | None:
    """The network's handle, None when there is no such network."""
    with explained(f"network {name}"):
        try:
            return connection.networkLookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_NETWORK:
                return None
            raise


def open_ours(connection: libvirt.virConnect, name: str) -> tuple[libvirt.virNetwork, NetworkSpec]:
    """The network and what it is now. Raises `NoNetwork`, `ForeignNetwork`."""
    network = find(connection, name)
    if network is None:
        raise NoNetwork(f"libvirt has no network {name}: define it first")
    with explained(f"network {name}"):
        xml = network.XMLDesc()
    check_ours(name, xml)
    return network, parse(xml)


def check_ours(name: str, xml: str) -> None:
    """Raise `ForeignNetwork` when the network of that XML was not made here."""
    root = etree.fromstring(xml.encode())
    if root.findtext("uuid") != uuid_of(name):
        raise ForeignNetwork(
            f"the network {name} of libvirt was not made by this service and is left alone: "
            f"give the datacenter another network name, or remove it with `virsh net-undefine {name}`"
        )


def open_pool(connection: libvirt.virConnect, spec: NetworkSpec) -> libvirt.virStoragePool:
    """The started pool of the network's reservations. Raises `NoAddresses` when it hands out none."""
    if not spec.serves:
        raise NoAddresses(f"network {spec.name} is an existing bridge, and its addresses are not ours")
    with explained(f"reservations of network {spec.name}"):
        pool = connection.storagePoolLookupByName(spec.pool)
        if not pool.isActive():
            pool.create()
        return pool


def ensure_pool(connection: libvirt.virConnect, spec: NetworkSpec) -> None:
    """Define and start the pool of the reservations' folder, and make the folder.

    The folder is written through libvirt, so that it is the right one when libvirt is on another host.
    Raises `ForeignNetwork` when a pool of that name keeps other things.
    """
    with explained(f"reservations of network {spec.name}"):
        try:
            pool = connection.storagePoolLookupByName(spec.pool)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise
            # dnsmasq gives up root and then has to list and read the folder
            target = E.target(E.path(spec.reservations), E.permissions(E.mode("0755")))
            xml = etree.tostring(E.pool(E.name(spec.pool), target, type="dir"), encoding="unicode")
            pool = connection.storagePoolDefineXML(xml)
        path = etree.fromstring(pool.XMLDesc().encode()).findtext("target/path")
        if path != spec.reservations:
            raise ForeignNetwork(
                f"the storage pool {spec.pool} keeps {path}, not the reservations of network {spec.name}: "
                "give the datacenter another network name"
            )
        if not pool.isActive():
            pool.build()
            pool.create()
        pool.setAutostart(1)
