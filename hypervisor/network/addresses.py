"""Which address comes next: pure functions, no I/O."""

import re
import secrets
from collections.abc import Container
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, IPv6Network
from itertools import chain
from typing import overload

from hypervisor.network.errors import InvalidAddress, SubnetExhausted

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_OUI = "52:54:00"  # the prefix of QEMU's and libvirt's own guest interfaces


def normal_mac(mac: str) -> str:
    """`mac` in lower case with colons. Raises `InvalidAddress` when it is no unicast Ethernet address."""
    normal = mac.lower().replace("-", ":")
    # the lowest bit of the first octet marks a group address (IEEE 802)
    if not _MAC.fullmatch(normal) or int(normal[:2], 16) & 1:
        raise InvalidAddress(f"{mac!r} is not the MAC of an interface: write it like {_OUI}:12:34:56")
    return normal


def random_mac(used: Container[str]) -> str:
    """A MAC of a guest interface that is not in `used` (lower case, colons)."""
    while True:
        tail = secrets.token_bytes(3)
        mac = f"{_OUI}:{tail.hex(':')}"
        if mac not in used:
            return mac


def tap_of(mac: str) -> str:
    """The name on the host of the interface of a guest with that MAC; 14 of at most 15 bytes (IFNAMSIZ).

    Raises `InvalidAddress` when it is no MAC.
    """
    return f"hv{normal_mac(mac).replace(':', '')}"


def eui64(prefix: IPv6Network | IPv6Interface, mac: str) -> IPv6Address:
    """The address that stateless autoconfiguration gives to `mac` in `prefix` (RFC 4291, appendix A).

    Raises `InvalidAddress` when the prefix is not a /64 (RFC 4862, section 5.5.3) or `mac` is no MAC.
    """
    network = prefix.network if isinstance(prefix, IPv6Interface) else prefix
    if network.prefixlen != 64:
        raise InvalidAddress(f"{network} is not a /64: only there an address follows from the MAC")
    octets = bytes.fromhex(normal_mac(mac).replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return network.network_address + int.from_bytes(identifier, "big")


@overload
def allocate(
    subnet: IPv4Interface, used: Container[IPv4Address], last: IPv4Address | None = None
) -> IPv4Address: ...
@overload
def allocate(
    subnet: IPv6Interface, used: Container[IPv6Address], last: IPv6Address | None = None
) -> IPv6Address: ...
def allocate(
    subnet: IPv4Interface | IPv6Interface,
    used: Container[IPv4Address] | Container[IPv6Address],
    last: IPv4Address | IPv6Address | None = None,
) -> IPv4Address | IPv6Address:
    """The next free address of a guest after `last`, the one given out most recently.

    `subnet` is the gateway with its prefix. The search goes up and wraps, so an address handed back rests for
    as long as the subnet allows. The subnet's own address, the gateway and the broadcast address are skipped
    (in IPv6 the first is the routers' anycast address, RFC 4291 2.6.1, and there is no broadcast).
    Raises `SubnetExhausted`.
    """
    network = subnet.network
    start = int(network.network_address)
    first = start + 1
    final = start + network.num_addresses - (2 if subnet.version == 4 else 1)
    if final < first:
        raise SubnetExhausted(f"{network} has no room for guests: use a larger subnet")
    begin = first if last is None or last not in network else int(last) + 1
    for number in chain(range(begin, final + 1), range(first, min(begin, final + 1))):
        address = type(subnet.ip)(number)
        if address != subnet.ip and address not in used:
            return address
    raise SubnetExhausted(f"every address of {network} is taken: release some, or use a larger subnet")
