"""What a network is."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface
from pathlib import PurePosixPath

from hypervisor.network.errors import InvalidSpec

_FAMILY = uuid.UUID("6f5a7c1e-3d0b-4c55-9d0e-5b1a1c7f2e64")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_BRIDGE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")  # an interface name has at most 15 bytes (IFNAMSIZ)
_FOLDER = re.compile(r"(/[A-Za-z0-9_.-]+)+")
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"  # RFC 1123
_DOMAIN = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")

FOLDER = PurePosixPath("/var/lib/libvirt")


class Mode(StrEnum):
    """How a network reaches the rest of the world."""

    NAT = "nat"
    ROUTED = "routed"
    ISOLATED = "isolated"
    PRIVATE = "private"  # a VLAN: isolated, and the host too answers nothing but DHCP; IPv4 only
    BRIDGE = "bridge"  # guests sit on an existing bridge of the host, whose own DHCP serves them


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network. `ipv4` and `ipv6` are the gateway with its prefix; `mtu` is in bytes.

    With `slaac` the router advertisements also let guests form the address that follows from their MAC
    (`addresses.eui64`). `folder` holds the reservations' folder on the host of libvirt.
    In mode `private` of `ipv4` only the subnet counts, and is kept as its first address: all others are the
    guests', whatever other networks use them too; DHCP says that `router` (of a guest, if at all) is the
    gateway, and names none otherwise.
    `labels` are our own marks in its metadata: they change without a restart, and two networks that differ in
    them alone are equal.
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
    router: IPv4Address | None = None
    folder: PurePosixPath = FOLDER
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)

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
        elif self.mode is Mode.PRIVATE:
            self._check_private()
        else:
            self._check_gateways()
        if self.router is not None and self.mode is not Mode.PRIVATE:
            raise InvalidSpec(
                f"on network {self.name} the gateway is the host: only a private one has a router"
            )

    def _check_private(self) -> None:
        if self.ipv4 is None or self.ipv6 or self.domain:
            raise InvalidSpec(f"the private network {self.name} has an IPv4 subnet, no IPv6 and no domain")
        subnet = self.ipv4.network
        self._check_room(subnet)
        object.__setattr__(self, "ipv4", IPv4Interface(subnet))
        if self.router is not None and (self.router not in subnet or self.router in (subnet[0], subnet[-1])):
            raise InvalidSpec(f"the router {self.router} is not the address of a host in {subnet}")

    def _check_room(self, subnet: IPv4Network) -> None:
        if subnet.prefixlen > 30:
            raise InvalidSpec(f"{subnet} has no room for guests: use a /30 or larger")

    def _check_gateways(self) -> None:
        if not (self.ipv4 or self.ipv6):
            raise InvalidSpec(f"network {self.name} needs an IPv4 or an IPv6 gateway")
        if self.ipv4:
            self._check_room(self.ipv4.network)
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
