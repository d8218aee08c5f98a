"""What a network is, and its XML in both directions."""

import re
import uuid
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import PurePosixPath

from lxml import etree
from lxml.builder import ElementMaker

from hypervisor.network.errors import InvalidSpec

_FAMILY = uuid.UUID("6f5a7c1e-3d0b-4c55-9d0e-5b1a1c7f2e64")
_DNSMASQ = "http://libvirt.org/schemas/network/dnsmasq/1.0"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_BRIDGE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")  # an interface name has at most 15 bytes (IFNAMSIZ)
_FOLDER = re.compile(r"(/[A-Za-z0-9_.-]+)+")
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"  # RFC 1123
_DOMAIN = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
# the gateway's address stands for a host that never asks: with one host and no range libvirt sets its DHCP
# server to "static", which answers only those that have a reservation
_NOBODY = "02:00:00:00:00:01"
_LEASES = 65536  # most leases at once; dnsmasq's own limit of 1000 is too low for a /16
_LIBVIRT_MODES = {"nat": "nat", "routed": "route", "isolated": None, "bridge": "bridge"}

FOLDER = PurePosixPath("/var/lib/libvirt")

_make = ElementMaker(nsmap={"dnsmasq": _DNSMASQ})
_dnsmasq = ElementMaker(namespace=_DNSMASQ, nsmap={"dnsmasq": _DNSMASQ})


class Mode(StrEnum):
    """How a network reaches the rest of the world."""

    NAT = "nat"
    ROUTED = "routed"
    ISOLATED = "isolated"
    BRIDGE = "bridge"  # guests sit on an existing bridge of the host, whose own DHCP serves them


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network. `ipv4` and `ipv6` are the gateway with its prefix; `mtu` is in bytes.

    With `slaac` the router advertisements also let guests form the address that follows from their MAC
    (`addresses.eui64`). `folder` holds the reservations' folder on the host of libvirt.
    Raises `InvalidSpec` when the values do not fit together.
    """

    name: str
    bridge: str
    ipv4: IPv4Interface | None = None
    ipv6: IPv6Interface | None = None
    mode: Mode = Mode.NAT
    domain: str | None = None
    mtu: int | None = None
    slaac: bool = True
    folder: PurePosixPath = FOLDER

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", Mode(self.mode))
        object.__setattr__(self, "slaac", self.slaac or self.ipv6 is None)
        if not _NAME.fullmatch(self.name):
            raise InvalidSpec(f"{self.name!r} is no name for a network: use letters, digits, '.', '_', '-'")
        if not _BRIDGE.fullmatch(self.bridge):
            raise InvalidSpec(f"{self.bridge!r} is no name for a bridge: use 1 to 15 letters and digits")
        if self.domain is not None and not _DOMAIN.fullmatch(self.domain):
            raise InvalidSpec(f"{self.domain!r} is no DNS domain in lower case")
        if self.mtu is not None and not 1280 <= self.mtu <= 65535:
            raise InvalidSpec(f"an MTU of {self.mtu} bytes does not carry IPv6: use 1280 to 65535")
        if not _FOLDER.fullmatch(str(self.folder)):
            raise InvalidSpec(f"{self.folder} is no absolute path of letters, digits, '.', '_', '-' and '/'")
        self._check_addresses()

    def _check_addresses(self) -> None:
        if self.mode is Mode.BRIDGE:
            if self.ipv4 or self.ipv6 or self.domain or self.mtu:
                raise InvalidSpec("a network on an existing bridge has no addresses, domain or MTU")
            object.__setattr__(self, "folder", FOLDER)
            return
        if not (self.ipv4 or self.ipv6):
            raise InvalidSpec(f"network {self.name} needs an IPv4 or an IPv6 gateway")
        if self.ipv4 and self.ipv4.network.prefixlen > 30:
            raise InvalidSpec(f"{self.ipv4.network} has no room for guests: use a /30 or larger")
        if self.ipv6 and self.ipv6.network.prefixlen != 64:
            raise InvalidSpec(f"{self.ipv6.network} is not a /64, as guests need it (RFC 4862)")
        for gateway in (self.ipv4, self.ipv6):
            edges = () if gateway is None else (gateway.network[0], gateway.network[-1])
            if gateway is not None and gateway.ip in edges:
                raise InvalidSpec(f"{gateway} is not the address of a host in its subnet")

    @property
    def uuid(self) -> str:
        """Follows from the name: a network of this name with another UUID is not ours."""
        return uuid_of(self.name)

    @property
    def reservations(self) -> str:
        """The folder of the reservations on the host of libvirt."""
        return str(self.folder / f"{self.name}-reservations")

    @property
    def pool(self) -> str:
        """The name of the storage pool through which that folder is written."""
        return pool_of(self.name)

    @property
    def serves(self) -> bool:
        """Whether the network hands out addresses."""
        return self.ipv4 is not None or self.ipv6 is not None


def uuid_of(name: str) -> str:
    """The UUID of our network of that name."""
    return str(uuid.uuid5(_FAMILY, name))


def pool_of(name: str) -> str:
    """The name of the storage pool with the reservations of the network `name`."""
    return f"{name}-reservations"


def render(spec: NetworkSpec) -> str:
    """The XML of a network (libvirt.org/formatnetwork.html)."""
    root = _make.network(_make.name(spec.name), _make.uuid(spec.uuid))
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
    if spec.ipv4:
        root.append(_served(spec.ipv4, "ipv4", _make.host(mac=_NOBODY, ip=str(spec.ipv4.ip))))
    if spec.ipv6:
        # libvirt knows no `mac` here, but dnsmasq, to which `name` goes as it is, does
        root.append(_served(spec.ipv6, "ipv6", _make.host(name=_NOBODY, ip=str(spec.ipv6.ip))))
        if spec.slaac:
            options.append(f"dhcp-range={spec.ipv6.network.network_address},slaac,64")
    root.append(_dnsmasq.options(*(_dnsmasq.option(value=value) for value in options)))
    return etree.tostring(root, encoding="unicode")


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
    return NetworkSpec(
        name=root.findtext("name") or "",
        bridge=bridge.get("name") or "",
        ipv4=ipv4 if isinstance(ipv4, IPv4Interface) else None,
        ipv6=ipv6 if isinstance(ipv6, IPv6Interface) else None,
        mode=Mode(modes[0]),
        domain=None if domain is None else domain.get("name"),
        mtu=None if mtu is None else int(mtu.get("size", "0")),
        slaac=any(",slaac" in text for text in options) or ipv6 is None,
        folder=folders[0] if folders else FOLDER,
    )
