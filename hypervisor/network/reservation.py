"""Reservations as dnsmasq reads them: one file each, whose name says the same as its line."""

import re
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from hypervisor.network.addresses import normal_mac
from hypervisor.network.errors import InvalidAddress

LEASE = "10m"  # an address freed under DHCPv6 is refused to another DUID for this long; dnsmasq's least is 2m
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
_FILE = re.compile(
    r"(?P<mac>[0-9a-f]{12})_(?P<ipv4>[0-9.]*)_(?P<ipv6>[0-9a-f]*)_(?P<hostname>[^_]*)_(?P<former>[0-9a-f]*)"
)


@dataclass(frozen=True, slots=True)
class Reservation:
    """The addresses of one MAC. Raises `InvalidAddress` for a wrong MAC or name, or without address."""

    mac: str
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    hostname: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mac", normal_mac(self.mac))
        if self.ipv4 is None and self.ipv6 is None:
            raise InvalidAddress(f"{self.mac} needs an IPv4 or an IPv6 address")
        # the name becomes part of a line of dnsmasq's configuration: nothing but a name may get there
        if self.hostname is not None and not _HOSTNAME.fullmatch(self.hostname):
            raise InvalidAddress(f"{self.hostname!r} is no host name: letters, digits and '-' (RFC 1123)")


@dataclass(frozen=True, slots=True)
class Lease:
    """An address that a guest really took; `client_id` is its DHCPv4 client identifier or its DUID."""

    mac: str
    address: IPv4Address | IPv6Address
    hostname: str | None
    client_id: str | None
    expires: datetime


def line(reservation: Reservation, former: str | None = None) -> str:
    """The `dhcp-host` of dnsmasq(8). `former` is the MAC that still holds a lease on the IPv4 address.

    With several MACs in one entry dnsmasq lets go of the lease of one as soon as another asks.
    """
    parts = [reservation.mac]
    if former:
        parts.append(former)
    if reservation.ipv4:
        parts.append(str(reservation.ipv4))
    if reservation.ipv6:
        parts.append(f"[{reservation.ipv6}]")
    if reservation.hostname:
        parts.append(reservation.hostname)
    return ",".join([*parts, LEASE]) + "\n"


def file_name(reservation: Reservation, former: str | None = None) -> str:
    """The name of the file: a listing of the folder is then the list of the reservations."""
    ipv6 = reservation.ipv6.packed.hex() if reservation.ipv6 else ""
    parts = (reservation.mac, reservation.ipv4 or "", ipv6, reservation.hostname or "", former or "")
    return "_".join(str(part).replace(":", "") for part in parts)


def from_file_name(name: str) -> Reservation | None:
    """The reservation in the file of that name; None when the file is not one of ours."""
    match = _FILE.fullmatch(name)
    if match is None:
        return None
    try:
        return Reservation(
            mac=bytes.fromhex(match["mac"]).hex(":"),
            ipv4=IPv4Address(match["ipv4"]) if match["ipv4"] else None,
            ipv6=IPv6Address(bytes.fromhex(match["ipv6"])) if match["ipv6"] else None,
            hostname=match["hostname"] or None,
        )
    except (ValueError, InvalidAddress):
        return None
