"""Bridges of this host, read from the kernel (rtnetlink(7))."""

from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from lxml import etree
from pyroute2 import IPRoute

from hypervisor.network.errors import NoBridge


def interface_exists(name: str) -> bool:
    """Whether the host has a network interface of that name, of whatever kind."""
    with IPRoute() as kernel:
        return bool(kernel.link_lookup(ifname=name))


def exists(bridge: str) -> bool:
    """Whether the host has a bridge of that name."""
    with IPRoute() as kernel:
        return any(_name(link) == bridge and _is_bridge(link) for link in kernel.get_links())


def ports(bridge: str) -> list[str]:
    """The interfaces plugged into the bridge, sorted: taps of guests and whatever else. Raises `NoBridge`."""
    with IPRoute() as kernel:
        links = list(kernel.get_links())
    number = next((link["index"] for link in links if _name(link) == bridge and _is_bridge(link)), None)
    if number is None:
        raise NoBridge(f"this host has no bridge {bridge}: make it with `ip link add {bridge} type bridge`")
    return sorted(_name(link) for link in links if link.get_attr("IFLA_MASTER") == number)


def addresses() -> dict[str, list[IPv4Interface | IPv6Interface]]:
    """The addresses of the host by interface, without link-local ones."""
    found: dict[str, list[IPv4Interface | IPv6Interface]] = {}
    with IPRoute() as kernel:
        names = {link["index"]: _name(link) for link in kernel.get_links()}
        for entry in kernel.get_addr():
            # IFA_LOCAL is the own end of a point-to-point link, where IFA_ADDRESS is the other one's
            text = entry.get_attr("IFA_LOCAL") or entry.get_attr("IFA_ADDRESS")
            address = ip_interface(f"{text}/{entry['prefixlen']}")
            if not address.ip.is_link_local:
                found.setdefault(names.get(entry["index"], str(entry["index"])), []).append(address)
    return found


def taps(domain_xml: str) -> dict[str, str]:
    """The tap of each interface of a running domain, by MAC in lower case."""
    found: dict[str, str] = {}
    for interface in etree.fromstring(domain_xml.encode()).iterfind("devices/interface"):
        mac, target = interface.find("mac"), interface.find("target")
        if mac is not None and target is not None:
            found[(mac.get("address") or "").lower()] = target.get("dev") or ""
    return found


def _name(link: Any) -> str:
    return str(link.get_attr("IFLA_IFNAME"))


def _is_bridge(link: Any) -> bool:
    information = link.get_attr("IFLA_LINKINFO")
    return information is not None and information.get_attr("IFLA_INFO_KIND") == "bridge"
