"""Reservations as dnsmasq reads them: one file each, whose name says the same as its line."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from hypervisor.network.addresses import normal_mac
from hypervisor.network.errors import InvalidAddress

LEASE = 600  # seconds; a DHCPv6 lease of a guest that is gone bars its address so long (dnsmasq: 120 or more)
SIZE = 1024  # bytes of a file, so that it can be written again in place; dnsmasq reads lines of that length
_FORMER = 16  # MACs in a line beside its own
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = re.compile(rf"(?=.{{1,155}}$){_LABEL}(\.{_LABEL})*")  # 155: the file's name has at most 255 bytes
_FILE = re.compile(
    r"(?P<mac>[0-9a-f]{12})_(?P<ipv4>[0-9.]*)_(?P<ipv6>[0-9a-f]*)_(?P<hostname>[^_]*)"
    r"(_(?P<label>[a-z0-9.]+))?"
)
_LABELS = re.compile(r"[a-z0-9.]{1,24}")
_FREED = re.compile(r"(?P<mac>[0-9a-f]{12})_(?P<ipv4>[0-9.]+)_(?P<when>[0-9]+)\.freed")


@dataclass(frozen=True, slots=True)
class Reservation:
    """The addresses of one MAC; `label` is the caller's own mark, of at most 24 lower-case letters, digits
    and dots. Raises `InvalidAddress` for a wrong MAC, name or label, or without address."""

    mac: str
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    hostname: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mac", normal_mac(self.mac))
        if self.ipv4 is None and self.ipv6 is None:
            raise InvalidAddress(f"{self.mac} needs an IPv4 or an IPv6 address")
        # the name becomes part of a line of dnsmasq's configuration: nothing but a name may get there
        if self.hostname is not None and not _HOSTNAME.fullmatch(self.hostname):
            raise InvalidAddress(f"{self.hostname!r} is no host name: letters, digits and '-' (RFC 1123)")
        if self.label is not None and not _LABELS.fullmatch(self.label):
            raise InvalidAddress(f"{self.label!r} is no label: up to 24 of a-z, 0-9 and '.'")


@dataclass(frozen=True, slots=True)
class Lease:
    """An address that a guest really took; `client_id` is its DHCPv4 client identifier or its DUID."""

    mac: str
    address: IPv4Address | IPv6Address
    hostname: str | None
    client_id: str | None
    expires: datetime


@dataclass(frozen=True, slots=True)
class Freed:
    """That `mac` gave up `ipv4` at `when` (Unix time in seconds): its lease may last on for `LEASE`."""

    mac: str
    ipv4: IPv4Address
    when: int


def content(reservation: Reservation, former: Collection[str] = ()) -> bytes:
    """The `dhcp-host` of dnsmasq(8). `former` are MACs that may still hold a lease on the IPv4 address.

    With several MACs in one entry dnsmasq gives up the lease of one as soon as another asks.
    """
    parts = [reservation.mac, *sorted(former)[:_FORMER]]
    if reservation.ipv4:
        parts.append(str(reservation.ipv4))
    if reservation.ipv6:
        parts.append(f"[{reservation.ipv6}]")
    if reservation.hostname:
        parts.append(reservation.hostname)
    return ",".join([*parts, str(LEASE)]).encode().ljust(SIZE, b"\n")


def file_name(entry: Reservation | Freed) -> str:
    """The name of the file: a listing of the folder is then the list of the reservations."""
    mac = entry.mac.replace(":", "")
    if isinstance(entry, Freed):
        return f"{mac}_{entry.ipv4}_{entry.when}.freed"
    ipv6 = entry.ipv6.packed.hex() if entry.ipv6 else ""
    label = f"_{entry.label}" if entry.label else ""
    return f"{mac}_{entry.ipv4 or ''}_{ipv6}_{entry.hostname or ''}{label}"


def from_file_name(name: str) -> Reservation | Freed | None:
    """What the file of that name stands for; None when it is not one of ours."""
    try:
        if match := _FREED.fullmatch(name):
            mac = bytes.fromhex(match["mac"]).hex(":")
            return Freed(normal_mac(mac), IPv4Address(match["ipv4"]), int(match["when"]))
        if match := _FILE.fullmatch(name):
            return Reservation(
                mac=bytes.fromhex(match["mac"]).hex(":"),
                ipv4=IPv4Address(match["ipv4"]) if match["ipv4"] else None,
                ipv6=IPv6Address(bytes.fromhex(match["ipv6"])) if match["ipv6"] else None,
                hostname=match["hostname"] or None,
                label=match["label"],
            )
    except (ValueError, InvalidAddress):
        return None
    return None
