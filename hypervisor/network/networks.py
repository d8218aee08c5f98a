"""Make, change and remove the networks. Every call may be repeated."""

import logging
from collections.abc import Collection
from enum import Enum

import libvirt
from lxml import etree

from hypervisor.libvirt_errors import explained
from hypervisor.network import bridge, conflicts, firewall, guard, neighbours
from hypervisor.network.errors import ForeignNetwork, InvalidSpec, NetworkInUse, NoBridge
from hypervisor.network.handles import check_ours, ensure_pool, find, network_lock, open_pool
from hypervisor.network.ledger import Ledger
from hypervisor.network.reservation import Reservation
from hypervisor.network.spec import Mode, NetworkSpec, pool_of
from hypervisor.network.xml import parse, render

log = logging.getLogger(__name__)

_VALIDATE = getattr(libvirt, "VIR_NETWORK_DEFINE_VALIDATE", 0)  # since libvirt 7.8


class Outcome(Enum):
    """What `ensure` did."""

    UNCHANGED = "runs as it should"
    STARTED = "made or started"
    RESTARTED = "changed; no guest was on it"
    PENDING = "changed when it starts the next time: guests are on it now"


def ensure(connection: libvirt.virConnect, spec: NetworkSpec, host_ports: Collection[int] = ()) -> Outcome:
    """Define the network, start it, and have it started with libvirt.

    One that runs as described is not touched. A changed one is restarted when no guest is on it; otherwise
    the new description waits for the next start. Reservations stay as they are. Guests of one that is not
    private reach `host_ports` of the host (TCP and UDP) beside its DHCP, DNS and ICMP, and send under their
    own addresses alone. The host's firewall forgets all that when the host starts: so call this for each when
    you start. Without a firewall a private network is refused, and for another one a warning is logged.
    Raises `ForeignNetwork`, `BridgeInUse`, `NoBridge`, `SubnetInUse`, `NoFirewall`, `LibvirtError`.
    """
    with network_lock(spec.name):
        network = find(connection, spec.name)
        if network is None:
            conflicts.check(connection, spec)
            network = _define(connection, spec)
        else:
            _check_bridge(network, spec)
            defined = _now(network, libvirt.VIR_NETWORK_XML_INACTIVE)
            # other labels alone are no reason to start it anew
            if defined is None or defined != spec or defined.labels != spec.labels:
                _define(connection, spec)
        if spec.serves:
            ensure_pool(connection, spec)  # before the start: dnsmasq reads the folder then
        if spec.mode is Mode.PRIVATE:
            _close(connection, spec)  # before the start: no guest is there yet
        guard.protect(connection, spec, _held(connection, spec), host_ports)
        with explained(f"network {spec.name}"):
            if not network.autostart():
                network.setAutostart(1)
        outcome = _run(connection, network, spec)
        if spec.ipv6 is not None and conflicts.is_local(connection):
            neighbours.be_patient(spec.bridge)
        return outcome


def remove(connection: libvirt.virConnect, name: str, *, force: bool = False) -> None:
    """Stop and forget the network and all its reservations; does nothing when there is none.

    With `force` also when guests are on it, who lose their network.
    Raises `NetworkInUse`, `ForeignNetwork`, `NoFirewall`, `LibvirtError`.
    """
    with network_lock(name):
        network = find(connection, name)
        with explained(f"network {name}"):
            if network is not None:
                check_ours(name, network.XMLDesc())
                spec = _now(network)
                if network.isActive():
                    if not force and spec is not None and _guests(connection, spec):
                        raise NetworkInUse(f"guests are on network {name}: detach them or stop them first")
                    network.destroy()
                if spec is not None and spec.mode is Mode.PRIVATE and conflicts.is_local(connection):
                    firewall.forget(spec.bridge)
            try:
                pool = connection.storagePoolLookupByName(pool_of(name))
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
                    raise
            else:
                if not pool.isActive():
                    pool.create()
                if spec is not None:
                    guard.forget(connection, spec, Ledger(pool).reservations)
                for volume in pool.listAllVolumes():
                    volume.delete()
                pool.destroy()
                pool.delete()
                pool.undefine()
            # last: as long as the network is defined, a repeated call knows that the rest was ours
            if network is not None and network.isPersistent():
                network.undefine()


def _held(connection: libvirt.virConnect, spec: NetworkSpec) -> list[Reservation]:
    if not spec.serves:
        return []
    with explained(f"reservations of network {spec.name}"):
        return Ledger(open_pool(connection, spec)).reservations


def _define(connection: libvirt.virConnect, spec: NetworkSpec) -> libvirt.virNetwork:
    with explained(f"network {spec.name}"):
        return connection.networkDefineXMLFlags(render(spec), _VALIDATE)


def _now(network: libvirt.virNetwork, flags: int = 0) -> NetworkSpec | None:
    with explained(f"network {network.name()}"):
        try:
            return parse(network.XMLDesc(flags))
        except (InvalidSpec, ValueError):
            return None  # someone edited it into something else: define it anew


def _check_bridge(network: libvirt.virNetwork, spec: NetworkSpec) -> None:
    with explained(f"network {spec.name}"):
        xml = network.XMLDesc()
    check_ours(spec.name, xml)
    element = etree.fromstring(xml.encode()).find("bridge")
    name = None if element is None else element.get("name")
    if name != spec.bridge:
        raise ForeignNetwork(
            f"the network {spec.name} of libvirt is on bridge {name}, not {spec.bridge}: name that, "
            f"or stop its guests, then `virsh net-destroy {spec.name}` and `virsh net-undefine {spec.name}`"
        )


def _run(connection: libvirt.virConnect, network: libvirt.virNetwork, spec: NetworkSpec) -> Outcome:
    with explained(f"network {spec.name}"):
        active = bool(network.isActive())
    if active:
        if _now(network) == spec:
            return Outcome.UNCHANGED
        if _guests(connection, spec):
            log.warning("network %s is changed when it starts the next time: guests are on it", spec.name)
            return Outcome.PENDING
    with explained(f"network {spec.name}"):
        if active:
            network.destroy()
        conflicts.check(connection, spec)
        network.create()
    return Outcome.RESTARTED if active else Outcome.STARTED


def _close(connection: libvirt.virConnect, spec: NetworkSpec) -> None:
    if conflicts.is_local(connection):
        firewall.close(spec.bridge)
    else:
        log.warning("libvirt may be on another host, which guests of %s reach: close it there", spec.name)


def _guests(connection: libvirt.virConnect, spec: NetworkSpec) -> bool:
    """Whether something is plugged into the network's bridge."""
    if conflicts.is_local(connection):
        try:
            return bool(bridge.ports(spec.bridge))
        except NoBridge:
            return False
    with explained(f"guests of network {spec.name}"):
        for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            for source in etree.fromstring(domain.XMLDesc().encode()).iterfind("devices/interface/source"):
                if spec.bridge == source.get("bridge") or spec.name == source.get("network"):
                    return True
    return False
