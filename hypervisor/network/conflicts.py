"""What stands in the way of a network that is about to be made, named before libvirt trips over it."""

from ipaddress import IPv4Network, IPv6Network
from urllib.parse import parse_qs, urlsplit

import libvirt
from lxml import etree

from hypervisor.libvirt_errors import explained
from hypervisor.network import bridge
from hypervisor.network.errors import BridgeInUse, InvalidSpec, NoBridge, SubnetInUse
from hypervisor.network.spec import Mode, NetworkSpec
from hypervisor.network.xml import parse


def check(connection: libvirt.virConnect, spec: NetworkSpec) -> None:
    """Raise when the bridge or the subnets of a network that does not run belong to something else.

    Raises `BridgeInUse`, `NoBridge`, `SubnetInUse`.
    """
    with explained(f"networks of {connection.getURI()}"):
        others = [network for network in connection.listAllNetworks() if network.UUIDString() != spec.uuid]
        for other in others:
            _check_network(spec, other.name(), other.XMLDesc())
        local = is_local(connection)
    if local:
        _check_host(spec)


def is_local(connection: libvirt.virConnect) -> bool:
    """Whether libvirt and this process see the same network interfaces, as far as the URI tells.

    A URI with a socket of its own may lead into another network namespace.
    """
    return is_local_uri(connection.getURI())


def is_local_uri(uri: str) -> bool:
    """`is_local` of a libvirt that need not answer."""
    split = urlsplit(uri)
    return not split.hostname and "socket" not in parse_qs(split.query)


def _check_network(spec: NetworkSpec, name: str, xml: str) -> None:
    root = etree.fromstring(xml.encode())
    element = root.find("bridge")
    if spec.mode is not Mode.BRIDGE and element is not None and element.get("name") == spec.bridge:
        raise BridgeInUse(
            f"the bridge {spec.bridge} belongs to the network {name} of libvirt: "
            f"give network {spec.name} another bridge name"
        )
    try:
        other = parse(xml)
    except (InvalidSpec, ValueError):
        return  # a kind of network that has no subnet to compare
    for subnet in _subnets(other):
        _check_subnet(spec, subnet, f"the network {name} of libvirt")


def _check_host(spec: NetworkSpec) -> None:
    if spec.mode is Mode.BRIDGE:
        if not bridge.exists(spec.bridge):
            raise NoBridge(
                f"this host has no bridge {spec.bridge}, on which network {spec.name} stands: "
                f"make it, for example with `ip link add {spec.bridge} type bridge`"
            )
        return
    if bridge.interface_exists(spec.bridge):
        raise BridgeInUse(
            f"this host has an interface {spec.bridge} already, and it is not that of libvirt's network "
            f"{spec.name}: choose another bridge name, or remove it with `ip link delete {spec.bridge}`"
        )
    for interface, held in bridge.addresses().items():
        for address in held:
            _check_subnet(spec, address.network, f"the interface {interface} of this host ({address})")


def _check_subnet(spec: NetworkSpec, subnet: IPv4Network | IPv6Network, holder: str) -> None:
    for own in _subnets(spec):
        if own.version == subnet.version and own.overlaps(subnet):
            raise SubnetInUse(f"{own} overlaps {subnet} of {holder}: give network {spec.name} another subnet")


def _subnets(spec: NetworkSpec) -> list[IPv4Network | IPv6Network]:
    if spec.mode is Mode.PRIVATE:
        return []  # the host has no address and no route there
    return [gateway.network for gateway in (spec.ipv4, spec.ipv6) if gateway is not None]
