"""A running domain's interface put on another network: its cable moved, and its guest told by that.

libvirt moves the tap, as it is, from one bridge to the other; the guest sees nothing of it and would keep its
addresses until its lease ends. What every DHCP client hears is a cable that is pulled and put back, which
says that the network may be another one (RFC 4436; systemd-networkd, NetworkManager and dhcpcd ask anew).
"""

import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address

import libvirt
from lxml import etree

from hypervisor.domain.power import State, lookup, state
from hypervisor.domain.spec import InterfaceSpec
from hypervisor.libvirt_errors import explained
from hypervisor.network import Lease, leases, normal_mac

# how long the cable is out, in seconds: short for those that hear at once, longer for those that wait whether
# it comes back, and for Linux, which may miss a short one within a second of the last (net/core/link_watch.c)
_PULLS = (0.25, 1.0, 3.0)
# how often the leases are looked at, in seconds: libvirt has no event for them
_LOOK = 0.05
_LONG_AGO = datetime.fromtimestamp(0, UTC)


def rewire(connection: libvirt.virConnect, uuid: str, interface: InterfaceSpec) -> None:
    """Put the running domain's interface of that alias on `interface.network`, with its cable pulled; the
    rest of it stays.

    So do its tap and what limits it. `renew` puts the cable back: the guest has no use for the new network
    before it asks for its address there. Does nothing when the domain is off, when it has no such interface,
    or when that is there already. The definition for the next start is the caller's affair (`power.define`).
    Raises `LibvirtError`.
    """

    def move(card: etree._Element) -> bool:
        source = card.find("source")
        if source is None or source.get("network") == interface.network:
            return False
        # libvirt adds the bridge and the port, which are the old network's
        source.attrib.clear()
        source.set("network", interface.network)
        _set_link(card, "down")
        return True

    _change(connection, uuid, interface.alias, f"move to network {interface.network}", move)


def pull_cable(connection: libvirt.virConnect, uuid: str, alias: str) -> None:
    """Pull the cable out of the running domain's interface, unless it is out. Raises `LibvirtError`."""
    _change(connection, uuid, alias, "pulled cable", lambda card: _set_link(card, "down"))


def plug_cable(connection: libvirt.virConnect, uuid: str, alias: str) -> None:
    """Put the cable back into the running domain's interface, unless it is in. Raises `LibvirtError`."""
    _change(connection, uuid, alias, "plugged cable", lambda card: _set_link(card, "up"))


def renew(
    connection: libvirt.virConnect,
    uuid: str,
    alias: str,
    mac: str,
    network: str,
    expected: Collection[IPv4Address | IPv6Address],
    patience: float = 1.0,
) -> bool:
    """Make the guest ask DHCP for its addresses anew; whether it took one of those `expected` on `network`.

    Its cable is pulled, if it is in, and put back after a quarter of a second; as long as the guest does not
    ask within `patience` seconds, that is done for longer, twice. Without an answer (no client, or a deaf
    one) the guest is left to itself: it asks when its lease ends. One address is enough: the guest asks for
    the others in the same moment, if at all. False too when the domain is off or paused. The cable is in
    afterwards. Blocks. Raises `NoNetwork`, `ForeignNetwork`, `LibvirtError`.
    """
    mac = normal_mac(mac)
    before = _ends(leases(connection, network), mac)
    for seconds in _PULLS:
        if state(connection, uuid) is not State.RUNNING:
            plug_cable(connection, uuid, alias)
            return False
        pull_cable(connection, uuid, alias)
        try:
            time.sleep(seconds)
        finally:
            plug_cable(connection, uuid, alias)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            # one that it held when it was here before, or until now, says nothing, whatever dnsmasq calls it
            # meanwhile: a new one ends later
            now = _ends(leases(connection, network), mac)
            if any(address in now and now[address] > before.get(address, _LONG_AGO) for address in expected):
                return True
            time.sleep(_LOOK)
    return False


def _ends(found: Collection[Lease], mac: str) -> dict[IPv4Address | IPv6Address, datetime]:
    return {lease.address: lease.expires for lease in found if lease.mac == mac}


def _set_link(card: etree._Element, wanted: str) -> bool:
    link = card.find("link")
    if link is None:
        link = etree.SubElement(card, "link", state="up")
    if link.get("state") == wanted:
        return False
    link.set("state", wanted)
    return True


def _change(
    connection: libvirt.virConnect,
    uuid: str,
    alias: str,
    attempt: str,
    change: Callable[[etree._Element], bool],
) -> None:
    """Let `change` edit the running interface's own element; it says whether there was anything to do."""
    if not state(connection, uuid).powered:
        return
    domain = lookup(connection, uuid)
    with explained(f"{attempt} of {alias} of domain {domain.name()}"):
        for card in etree.fromstring(domain.XMLDesc().encode()).iterfind("devices/interface"):
            name = card.find("alias")
            if name is not None and name.get("name") == alias and change(card):
                xml = etree.tostring(card, encoding="unicode")
                try:
                    domain.updateDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
                except libvirt.libvirtError:
                    # it was switched off in this moment
                    if state(connection, uuid).powered:
                        raise
