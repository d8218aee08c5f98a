"""The XML of a network in both directions (libvirt.org/formatnetwork.html)."""

import uuid
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_interface
from pathlib import PurePosixPath

from lxml import etree
from lxml.builder import ElementMaker

from hypervisor.network.errors import InvalidSpec
from hypervisor.network.spec import FOLDER, Mode, NetworkSpec

_LABELS = "urn:hypervisor:network:1"
_DNSMASQ = "http://libvirt.org/schemas/network/dnsmasq/1.0"
# the gateway's address stands for a host that never asks: with one host and no range libvirt sets its DHCP
# server to "static", which answers only those that have a reservation
_NOBODY = "02:00:00:00:00:01"
_LEASES = 65536  # most leases at once; dnsmasq's own limit of 1000 is too low for a /16
_LIBVIRT_MODES = {"nat": "nat", "routed": "route", "isolated": None, "private": None, "bridge": "bridge"}
# the DHCP server of every private network, in none of their subnets, so that these may overlap each other and
# the host's own; of a block that no guest chooses for itself (RFC 3927, 2.1), and without a route to it
_SERVER = IPv4Interface("169.254.0.1/32")
_SHARED, _RANGE, _ROUTER = "shared-network=", "dhcp-range=", "dhcp-option=3,"

_make = ElementMaker(nsmap={"dnsmasq": _DNSMASQ})
_labels = ElementMaker(namespace=_LABELS, nsmap={"hypervisor": _LABELS})
_dnsmasq = ElementMaker(namespace=_DNSMASQ, nsmap={"dnsmasq": _DNSMASQ})


def render(spec: NetworkSpec) -> str:
    """The XML of a network (libvirt.org/formatnetwork.html)."""
    root = _make.network(_make.name(spec.name), _make.uuid(spec.uuid))
    if spec.labels:
        root.append(_make.metadata(_labels.labels(dict(sorted(spec.labels.items())))))
    forward = _LIBVIRT_MODES[spec.mode]
    if forward == "nat" and spec.ipv6:
        root.append(_make.forward(_make.nat(ipv6="yes"), mode=forward))
    elif forward:
        root.append(_make.forward(mode=forward))
    if spec.mode is Mode.BRIDGE:
        root.append(_make.bridge(name=spec.bridge))
        return etree.tostring(root, encoding="unicode")
    root.append(_make.bridge(name=spec.bridge, stp="off", delay="0"))
    if spec.mtu:
        root.append(_make.mtu(size=str(spec.mtu)))
    # a MAC of its own that stays: guests remember their gateway's
    root.append(_make.mac(address=f"02:{uuid.UUID(spec.uuid).bytes[:5].hex(':')}"))
    if spec.domain:
        root.append(_make.domain(name=spec.domain, localOnly="yes"))
    options = [f"dhcp-hostsfile={spec.reservations}", f"dhcp-lease-max={_LEASES}"]
    if spec.mode is Mode.PRIVATE:
        root.append(_served(_SERVER, "ipv4", _make.host(mac=_NOBODY, ip=str(_SERVER.ip))))
        options += _private(spec)
    elif spec.ipv4:
        root.append(_served(spec.ipv4, "ipv4", _make.host(mac=_NOBODY, ip=str(spec.ipv4.ip))))
    if spec.ipv6:
        # libvirt knows no `mac` here, but dnsmasq, to which `name` goes as it is, does
        root.append(_served(spec.ipv6, "ipv6", _make.host(name=_NOBODY, ip=str(spec.ipv6.ip))))
        if spec.slaac:
            options.append(f"dhcp-range={spec.ipv6.network.network_address},slaac,64")
    root.append(_dnsmasq.options(*(_dnsmasq.option(value=value) for value in options)))
    return etree.tostring(root, encoding="unicode")


def _private(spec: NetworkSpec) -> list[str]:
    """Options of dnsmasq(8): no DNS, and a subnet in which it has no address itself."""
    if spec.ipv4 is None:
        return []
    subnet = spec.ipv4.network
    options = [
        "port=0",
        f"{_SHARED}{spec.bridge},{subnet.network_address}",
        f"{_RANGE}{subnet.network_address},static,{subnet.netmask}",
    ]
    # libvirt says `dhcp-option=3` on an isolated network: no gateway; of two the later one counts
    return options if spec.router is None else [*options, f"{_ROUTER}{spec.router}"]


def _served(gateway: IPv4Interface | IPv6Interface, family: str, nobody: etree._Element) -> etree._Element:
    prefix = str(gateway.network.prefixlen)
    element: etree._Element = _make.ip(
        _make.dhcp(nobody), family=family, address=str(gateway.ip), prefix=prefix
    )
    return element


def parse(xml: str) -> NetworkSpec:
    """The network that `render` wrote, or libvirt's account of it. Raises `InvalidSpec` for any other."""
    root = etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True))
    forward, bridge = root.find("forward"), root.find("bridge")
    mode = None if forward is None else forward.get("mode", "nat")
    modes = [ours for ours, theirs in _LIBVIRT_MODES.items() if theirs == mode]
    if not modes or bridge is None:
        raise InvalidSpec(f"network {root.findtext('name')} is of a kind that is not made here")
    gateways: dict[int, IPv4Interface | IPv6Interface] = {}
    for element in root.iterfind("ip"):
        mask = element.get("prefix") or element.get("netmask")
        gateway = ip_interface(f"{element.get('address')}/{mask}")
        gateways[gateway.version] = gateway
    ipv4, ipv6 = gateways.get(4), gateways.get(6)
    options = [option.get("value", "") for option in root.iterfind(f"{{{_DNSMASQ}}}options/*")]
    key = "dhcp-hostsfile="
    folders = [PurePosixPath(text.removeprefix(key)).parent for text in options if text.startswith(key)]
    domain, mtu = root.find("domain"), root.find("mtu")
    labels = root.find(f"metadata/{{{_LABELS}}}labels")
    private = modes[0] == Mode.ISOLATED and any(text.startswith(_SHARED) for text in options)
    routers: list[IPv4Address] = []
    if private:
        routers = [IPv4Address(text.removeprefix(_ROUTER)) for text in options if text.startswith(_ROUTER)]
        ranges = [text.removeprefix(_RANGE).split(",static,") for text in options if text.startswith(_RANGE)]
        ipv4 = ip_interface("/".join(ranges[0])) if ranges else None
    return NetworkSpec(
        name=root.findtext("name") or "",
        bridge=bridge.get("name") or "",
        ipv4=ipv4 if isinstance(ipv4, IPv4Interface) else None,
        ipv6=ipv6 if isinstance(ipv6, IPv6Interface) else None,
        mode=Mode.PRIVATE if private else Mode(modes[0]),
        domain=None if domain is None else domain.get("name"),
        mtu=None if mtu is None else int(mtu.get("size", "0")),
        slaac=any(",slaac" in text for text in options) or ipv6 is None,
        router=routers[0] if routers else None,
        folder=folders[0] if folders else FOLDER,
        labels={} if labels is None else {str(key): str(value) for key, value in labels.attrib.items()},
    )
