"""Guests send as who they are: the frames of an interface that has a reservation are held to it (nft(8)).

A bridge learns from each frame where its sender is, and guests believe what ARP, NDP and DHCP tell them: who
sends under another's MAC or address gets its traffic. So what comes in by a guest's tap is looked at before
the bridge sees it, in one table whose rules never change; what changes are its sets, and they change with the
reservations. A tap is named after its MAC (`tap_of`): a guest that starts or is plugged in finds its entries
made. Nothing is done then, and there is no moment without a filter.

Dropped are: other MACs, also inside ARP and DHCP; other IPv4 and IPv6 addresses, also those claimed by ARP
and NDP, and link-local ones that do not follow from the MAC; answers of DHCP servers, router advertisements
and redirects; whatever is neither ARP, RARP, IPv4 nor IPv6. A dropped frame teaches the bridge nothing.

A guest with several interfaces answers on any of them for all of its addresses, as Linux does, so those are
shared among them (`share`).

An interface on a private network alone has no entries: what its owner does there is the owner's affair. One
that moves has the addresses of both its networks until it is taken off the first.
"""

import threading
from collections.abc import Collection, Iterable
from ipaddress import IPv6Network

from hypervisor.network import nft
from hypervisor.network.addresses import eui64, tap_of
from hypervisor.network.reservation import Reservation

# `targets` and `clients` hold MAC and address once more, typed as what they are compared with: the address in
# an ICMPv6 message (RFC 4861, 4.3 and 4.4), the client's MAC in a DHCP message (RFC 2131, 2)
_TABLE = """
table bridge hypervisor {
    set taps {
        type ifname
    }
    set macs {
        type ifname . ether_addr
    }
    set ipv4 {
        type ether_addr . ipv4_addr
    }
    set ipv6 {
        type ether_addr . ipv6_addr
    }
    set shared4 {
        type ether_addr . ipv4_addr
    }
    set shared6 {
        type ether_addr . ipv6_addr
    }
    set targets {
        typeof ether saddr . @th,64,128
    }
    set clients {
        typeof ether saddr . @th,288,48
    }
    chain prerouting {
        type filter hook prerouting priority -200; policy accept;
    }
    chain guest {
    }
    chain by_arp {
    }
    chain by_ipv4 {
    }
    chain by_ipv6 {
    }
    chain unspecified {
    }
}
flush table bridge hypervisor
table bridge hypervisor {
    chain prerouting {
        iifname @taps goto guest
    }
    chain guest {
        iifname . ether saddr != @macs drop
        ether type arp goto by_arp
        ether type ip goto by_ipv4
        ether type ip6 goto by_ipv6
        # RARP: by it QEMU tells the bridge where the guest is, after a migration
        ether type 0x8035 accept
        drop
    }
    chain by_arp {
        arp htype != 1 drop
        arp ptype != ip drop
        arp hlen != 6 drop
        arp plen != 4 drop
        arp operation != { request, reply } drop
        iifname . arp saddr ether != @macs drop
        # a guest that asks whether its address is free (RFC 5227)
        arp operation request arp saddr ip 0.0.0.0 ether saddr . arp daddr ip @ipv4 accept
        ether saddr . arp saddr ip != @ipv4 ether saddr . arp saddr ip != @shared4 drop
    }
    chain by_ipv4 {
        udp dport 67 ether saddr . @th,288,48 != @clients drop
        ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
        ether saddr . ip saddr != @ipv4 ether saddr . ip saddr != @shared4 drop
        udp sport 67 drop
        udp dport 68 drop
    }
    chain by_ipv6 {
        ip6 saddr :: goto unspecified
        ether saddr . ip6 saddr != @ipv6 ether saddr . ip6 saddr != @shared6 drop
        udp sport 547 drop
        udp dport 546 drop
        icmpv6 type { nd-router-advert, nd-redirect } drop
        icmpv6 type nd-neighbor-advert ether saddr . @th,64,128 != @targets drop
    }
    chain unspecified {
        icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report, nd-router-solicit } accept
        # a guest that asks whether its address is free (RFC 4862)
        icmpv6 type nd-neighbor-solicit ether saddr . @th,64,128 @targets accept
        drop
    }
}
"""

_LINK = IPv6Network("fe80::/64")
# what one call reads of the sets must still hold when it writes
_lock = threading.Lock()


def install(reservations: Iterable[Reservation]) -> None:
    """Have the table as it should be, whatever it was, with these reservations. Raises `NoFirewall`."""
    script = [_TABLE]
    for reservation in reservations:
        script += _commands("add", _identity(reservation.mac) | _addresses(reservation))
    with _lock:
        nft.run("\n".join(script), "isolation of guests")


def admit(reservation: Reservation, former: Iterable[Reservation] = ()) -> None:
    """Let a guest use the addresses of the reservation, and those of `former` ones no more.

    Raises `NoFirewall`, also when nothing was installed.
    """
    attempt = f"addresses of {reservation.mac}"
    new = _addresses(reservation)
    old = {element for one in former for element in _addresses(one)} - new
    script = _removal(old)
    with _lock:
        if old:
            script += _unshared(_held(attempt), {text.split(" . ")[1] for _, text in old})
        script += _commands("add", _identity(reservation.mac) | new)
        nft.run("\n".join(script), attempt)


def dismiss(reservations: Iterable[Reservation]) -> None:
    """Take the addresses of the reservations away from their guests; one that has none left is free.

    Raises `NoFirewall`, also when nothing was installed.
    """
    gone = list(reservations)
    script = [line for one in gone for line in _removal(_addresses(one))]
    attempt = f"addresses of {', '.join(one.mac for one in gone)}"
    addresses = {str(address) for one in gone for address in (one.ipv4, one.ipv6)}
    with _lock:
        held = _held(attempt)
        script += _unshared(held, addresses)
        for mac in {one.mac for one in gone}:
            own = {address for name in ("ipv4", "ipv6") for holder, address in held[name] if holder == mac}
            if own <= addresses | {str(eui64(_LINK, mac))}:
                script += _removal(_identity(mac))
        nft.run("\n".join(script), attempt)


def share(macs: Collection[str]) -> None:
    """Let a guest send under all addresses of its interfaces, which have these MACs, on each of them.

    What they shared with others before ends. Raises `NoFirewall`, also when nothing was installed.
    """
    attempt = f"addresses of {', '.join(macs)}"
    script: list[str] = []
    with _lock:
        held = _held(attempt)
        for own, shared in (("ipv4", "shared4"), ("ipv6", "shared6")):
            theirs = {
                address: mac for mac, address in held[own] if mac in macs and not address.startswith("fe80:")
            }
            wanted = {(mac, address) for address, holder in theirs.items() for mac in macs if mac != holder}
            now = {(mac, address) for mac, address in held[shared] if mac in macs or address in theirs}
            script += _removal((shared, f"{mac} . {address}") for mac, address in now - wanted)
            script += _commands("add", ((shared, f"{mac} . {address}") for mac, address in wanted - now))
        if script:
            nft.run("\n".join(script), attempt)


def holds(macs: Iterable[str]) -> bool:
    """Whether the table is there, and the interfaces with these MACs are held to their addresses by it."""
    return nft.holds("bridge", "taps", map(tap_of, macs))


def _held(attempt: str) -> dict[str, list[list[str]]]:
    """The MACs with their addresses, in each set that has addresses."""
    return nft.elements("bridge", ["ipv4", "ipv6", "shared4", "shared6"], attempt)


def _unshared(held: dict[str, list[list[str]]], addresses: Collection[str]) -> list[str]:
    return _removal(
        (name, f"{mac} . {address}")
        for name in ("shared4", "shared6")
        for mac, address in held[name]
        if address in addresses
    )


def _identity(mac: str) -> set[tuple[str, str]]:
    """The elements, by set, that follow from the MAC."""
    link, tap = eui64(_LINK, mac), f'"{tap_of(mac)}"'
    return {
        ("taps", tap),
        ("macs", f"{tap} . {mac}"),
        ("clients", f"{mac} . 0x{mac.replace(':', '')}"),
        ("ipv6", f"{mac} . {link}"),
        ("targets", f"{mac} . {int(link):#034x}"),
    }


def _addresses(reservation: Reservation) -> set[tuple[str, str]]:
    mac, found = reservation.mac, set()
    if reservation.ipv4 is not None:
        found.add(("ipv4", f"{mac} . {reservation.ipv4}"))
    if reservation.ipv6 is not None:
        found.add(("ipv6", f"{mac} . {reservation.ipv6}"))
        found.add(("targets", f"{mac} . {int(reservation.ipv6):#034x}"))
    return found


def _commands(command: str, elements: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{command} element bridge hypervisor {name} {{ {element} }}" for name, element in elements]


def _removal(elements: Iterable[tuple[str, str]]) -> list[str]:
    # added first: what is not there cannot be deleted
    return [line for one in elements for command in ("add", "delete") for line in _commands(command, [one])]
