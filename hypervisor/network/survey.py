"""The private networks that were made here, and what is left plugged into a bridge."""

import re

import libvirt
from pyroute2 import IPRoute

from hypervisor.libvirt_errors import explained
from hypervisor.network import bridge
from hypervisor.network.errors import InvalidSpec, NetworkError, NoBridge
from hypervisor.network.handles import open_ours
from hypervisor.network.spec import Mode, NetworkSpec, uuid_of
from hypervisor.network.xml import parse

# taps as `addresses.tap_of` names them, and as libvirt does by itself
_TAP = re.compile(r"hv[0-9a-f]{12}|vnet[0-9]+")


def private(connection: libvirt.virConnect) -> list[tuple[NetworkSpec, bool]]:
    """The private networks, as they are defined, and whether each runs. Raises `LibvirtError`."""
    found = []
    with explained("list of networks"):
        for network in connection.listAllNetworks():
            if network.UUIDString() != uuid_of(network.name()):
                continue
            try:
                flags = libvirt.VIR_NETWORK_XML_INACTIVE if network.isPersistent() else 0
                spec = parse(network.XMLDesc(flags))
            except (InvalidSpec, ValueError):
                continue  # someone made something else of it
            if spec.mode is Mode.PRIVATE:
                found.append((spec, bool(network.isActive())))
    return found


def bridge_of(connection: libvirt.virConnect, name: str) -> str | None:
    """The bridge of our network of that name; None when there is no such network of ours."""
    try:
        return open_ours(connection, name)[1].bridge
    except NetworkError:
        return None


def stray_taps(name: str, used: set[str]) -> list[str]:
    """The taps of guests in the bridge that are not `used` by a domain; none when there is no such bridge."""
    try:
        return [port for port in bridge.ports(name) if _TAP.fullmatch(port) and port not in used]
    except NoBridge:
        return []


def remove_tap(name: str) -> bool:
    """Remove a tap from the host; False when it is gone."""
    with IPRoute() as kernel:
        found = kernel.link_lookup(ifname=name)
        for index in found:
            kernel.link("del", index=index)
    return bool(found)
