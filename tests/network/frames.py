"""Ethernet frames as a hostile guest may send them, made by hand; and who sees them on the host.

Run as a program in the guest, it sends the frames that it reads as lines of hexadecimal digits on `eth0`.
"""

import socket
import struct
import sys
import time
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType

EVERYBODY = "ff:ff:ff:ff:ff:ff"
ALL_NODES = IPv6Address("ff02::1")
_ETH_P_ALL = 3
_IPV4, _ARP, _IPV6, _VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
_UDP, _ICMPV6, _HOP_BY_HOP, _FRAGMENT = 17, 58, 0, 44


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def ethernet(source: str, target: str, kind: int, payload: bytes) -> bytes:
    """A frame of at least 60 bytes."""
    return (raw(target) + raw(source) + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def tagged(frame: bytes, *identifiers: int) -> bytes:
    """The frame with VLAN tags (IEEE 802.1Q)."""
    tags = b"".join(struct.pack("!HH", _VLAN, number) for number in identifiers)
    return frame[:12] + tags + frame[12:]


def arp(
    source: str, operation: int, mac: str, sender: IPv4Address, target: IPv4Address, kind: int = 1
) -> bytes:
    """RFC 826; `operation` 1 asks, 2 answers."""
    head = struct.pack("!HHBBH", kind, _IPV4, 6, 4, operation)
    return ethernet(source, EVERYBODY, _ARP, head + raw(mac) + sender.packed + bytes(6) + target.packed)


def _udp(source: int, target: int, content: bytes) -> bytes:
    return struct.pack("!HHHH", source, target, 8 + len(content), 0) + content


def ipv4(
    macs: tuple[str, str], source: IPv4Address, target: IPv4Address, ports: tuple[int, int], content: bytes
) -> bytes:
    """A UDP datagram."""
    body = _udp(*ports, content)
    head = (
        struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, _UDP, 0) + source.packed + target.packed
    )
    total = sum(struct.unpack("!10H", head))
    total = (total >> 16) + (total & 0xFFFF)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    return ethernet(*macs, _IPV4, head + body)


def bootp(operation: int, client: str) -> bytes:
    """A DHCP message of `client` (RFC 2131): 1 asks, 2 answers."""
    return struct.pack("!BBBBIHH16x", operation, 1, 6, 0, 7, 0, 0) + raw(client) + bytes(10 + 64 + 128)


def ipv6(
    macs: tuple[str, str], source: IPv6Address, target: IPv6Address, following: int, body: bytes
) -> bytes:
    """A packet with what follows its header."""
    head = struct.pack("!IHBB", 6 << 28, len(body), following, 255) + source.packed + target.packed
    return ethernet(*macs, _IPV6, head + body)


def udp6(
    macs: tuple[str, str], source: IPv6Address, target: IPv6Address, ports: tuple[int, int], content: bytes
) -> bytes:
    """A UDP datagram."""
    return ipv6(macs, source, target, _UDP, _udp(*ports, content))


def icmp6(
    macs: tuple[str, str], source: IPv6Address, target: IPv6Address, message: bytes, wrapping: str = ""
) -> bytes:
    """An ICMPv6 message, plain or behind a header that hides it: `hop-by-hop` or `fragment`."""
    if wrapping == "hop-by-hop":
        padding = bytes([_ICMPV6, 0, 1, 4, 0, 0, 0, 0])
        return ipv6(macs, source, target, _HOP_BY_HOP, padding + message)
    if wrapping == "fragment":
        head = struct.pack("!BBHI", _ICMPV6, 0, 0, 99)
        return ipv6(macs, source, target, _FRAGMENT, head + message)
    return ipv6(macs, source, target, _ICMPV6, message)


def neighbour(kind: int, about: IPv6Address, mac: str) -> bytes:
    """A neighbour solicitation (135) or advertisement (136) about an address, with a MAC (RFC 4861)."""
    option = b"" if kind == 135 else b"\x02\x01" + raw(mac)
    return struct.pack("!BBHI", kind, 0, 0, 0x60000000 if kind == 136 else 0) + about.packed + option


def other(kind: int) -> bytes:
    """An ICMPv6 message of whatever kind."""
    return struct.pack("!BBHI", kind, 0, 0, 0) + bytes(32)


class Tap:
    """What passes an interface of the host, in both directions."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind((name, _ETH_P_ALL))

    def __enter__(self) -> "Tap":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def until(self, last: bytes, seconds: float = 10) -> set[bytes]:
        """All frames up to `last`, which has to come."""
        seen: set[bytes] = set()
        deadline = time.monotonic() + seconds
        while last not in seen:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            seen.add(self._socket.recv(1 << 16))
        return seen


def lines(frames: Iterable[bytes]) -> str:
    """The frames as this program reads them."""
    return "".join(f"{frame.hex()}\n" for frame in frames)


if __name__ == "__main__":
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("eth0", 0))
        for line in sys.stdin:
            sender.send(bytes.fromhex(line))
