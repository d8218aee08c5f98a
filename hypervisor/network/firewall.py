"""Keep this host and its other networks out of reach of guests (nft(8)).

libvirt lets guests talk to the host itself, on whatever address they name; it rejects what an isolated
network would send on, in the IPv4 chains of its own, and into a network of mode `routed` packets pass one
way. One table of ours, beside libvirt's, forbids that, and stays when libvirt puts back its rules.
"""

from collections.abc import Collection

from hypervisor.network import nft

# before the tables of others (-10): their accept does not count for ours, nor ours for theirs
_TABLE = """
table inet hypervisor {
    set private {
        type ifname
    }
    set public {
        type ifname
    }
    set open_ports {
        type ifname . inet_service
    }
    chain prerouting {
        type filter hook prerouting priority -300; policy accept;
    }
    chain input {
        type filter hook input priority -10; policy accept;
    }
    chain guests {
    }
    chain forward {
        type filter hook forward priority -10; policy accept;
    }
}
flush table inet hypervisor
table inet hypervisor {
    chain prerouting {
        # a guest that renews its lease sends from an address to which this host has no route (rp_filter)
        iifname @private ip daddr 255.255.255.255 udp sport 68 udp dport 67 ip saddr set 0.0.0.0
    }
    chain input {
        iifname @private udp sport 68 udp dport 67 accept
        iifname @private ct state { established, related } accept
        iifname @private drop
        iifname @public jump guests
    }
    chain guests {
        ct state { established, related } accept
        meta l4proto { icmp, ipv6-icmp } accept
        # DNS and DHCP
        udp dport { 53, 67, 547 } accept
        tcp dport 53 accept
        meta l4proto { tcp, udp } iifname . th dport @open_ports accept
        reject
    }
    chain forward {
        # from one private network to another libvirt rejects; within one, a bridge that asks passes
        iifname @private oifname != @private drop
        oifname @private iifname != @private drop
    }
}
"""


def close(bridge: str) -> None:
    """Let guests on the bridge reach the host by DHCP only, and no other network. May be repeated.

    The host still reaches its guests. Raises `NoFirewall`.
    """
    nft.run(f'{_TABLE}add element inet hypervisor private {{ "{bridge}" }}', f"close {bridge}")


def guard(bridge: str, ports: Collection[int] = ()) -> None:
    """Let guests on the bridge reach the host by DHCP, DNS, ICMP and those TCP and UDP ports only.

    The host still reaches its guests, and they what is beyond it. May be repeated. Raises `NoFirewall`.
    """
    attempt = f"guard {bridge}"
    nft.run(_TABLE, attempt)
    opened = _opened(bridge, attempt)
    script = [f'add element inet hypervisor public {{ "{bridge}" }}']
    script += [_port("add", bridge, port) for port in set(ports) - opened]
    script += [_port("delete", bridge, port) for port in opened - set(ports)]
    nft.run("\n".join(script), attempt)


def forget(bridge: str) -> None:
    """Undo `close` and `guard`; does nothing when neither was done. Raises `NoFirewall`."""
    attempt = f"open {bridge}"
    nft.run(_TABLE, attempt)
    script = [
        # added first: what is not there cannot be deleted
        f'{command} element inet hypervisor {name} {{ "{bridge}" }}'
        for name in ("private", "public")
        for command in ("add", "delete")
    ]
    script += [_port("delete", bridge, port) for port in _opened(bridge, attempt)]
    nft.run("\n".join(script), attempt)


def guards(bridge: str) -> bool:
    """Whether `guard` was called for the bridge, and its rules are still there."""
    return nft.holds("inet", "public", [bridge])


def _opened(bridge: str, attempt: str) -> set[int]:
    held = nft.elements("inet", ["open_ports"], attempt)["open_ports"]
    return {int(port) for name, port in held if name == bridge}


def _port(command: str, bridge: str, port: int) -> str:
    return f'{command} element inet hypervisor open_ports {{ "{bridge}" . {port} }}'
