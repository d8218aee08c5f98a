"""Addresses that real DHCP clients get from a real libvirt network."""

import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address

import libvirt
import pytest

from hypervisor.network import (
    Mode,
    NetworkSpec,
    Reservation,
    assign,
    ensure,
    eui64,
    leases,
    random_mac,
    release,
    reservations,
)
from hypervisor.network.errors import AddressInUse, InvalidAddress, NoAddresses
from hypervisor.network.ledger import Ledger
from tests.network.conftest import Plug

pytestmark = pytest.mark.lab

ADDRESSES = IPv4Address("10.213.4.0")


@pytest.fixture
def mac(connection: libvirt.virConnect, network: NetworkSpec) -> Iterator[str]:
    mac = random_mac(())
    yield mac
    release(connection, network.name, mac)


def link_layer(mac: str) -> str:
    """DUID-LL (RFC 8415, 11.4)."""
    return "00030001" + mac.replace(":", "")


def enterprise() -> str:
    """DUID-EN (RFC 8415, 11.3), as systemd-networkd has it: nothing of the MAC in it."""
    return "00020000ab11" + os.urandom(8).hex()


def reserve(connection: libvirt.virConnect, network: NetworkSpec, mac: str, number: int) -> Reservation:
    assert network.ipv6 is not None
    reservation = Reservation(mac, ADDRESSES + number, eui64(network.ipv6, mac), f"guest{number}")
    assign(connection, network.name, reservation)
    return reservation


def holders(connection: libvirt.virConnect, network: NetworkSpec, address: IPv4Address | None) -> list[str]:
    return [entry.mac for entry in reservations(connection, network.name) if entry.ipv4 == address]


def test_both_addresses(connection: libvirt.virConnect, network: NetworkSpec, mac: str, plug: Plug) -> None:
    guest = plug(network.bridge, mac)
    wanted = reserve(connection, network, mac, 1)
    assert guest.dhcp() == [str(wanted.ipv4), "16", "guest1", "-", "600"]
    assert guest.dhcp6(enterprise()) == [str(wanted.ipv6)]
    assert guest.autoconfigured() == f"{wanted.ipv6}/64"
    assert wanted in reservations(connection, network.name)


def test_leases(connection: libvirt.virConnect, network: NetworkSpec, mac: str, plug: Plug) -> None:
    guest = plug(network.bridge, mac)
    wanted = reserve(connection, network, mac, 9)
    guest.dhcp()
    guest.dhcp6(enterprise())
    found: set[object] = set()
    deadline = time.monotonic() + 10
    while len(found) < 2 and time.monotonic() < deadline:  # libvirt hears of a lease later, and tells nobody
        found = {lease.address for lease in leases(connection, network.name) if lease.mac == mac}
    assert found == {wanted.ipv4, wanted.ipv6}


def test_duid_of_the_mac(connection: libvirt.virConnect, network: NetworkSpec, mac: str, plug: Plug) -> None:
    guest = plug(network.bridge, mac)
    wanted = reserve(connection, network, mac, 2)
    assert guest.dhcp6(link_layer(mac)) == [str(wanted.ipv6)]


def test_two_interfaces_of_one_guest(
    connection: libvirt.virConnect, network: NetworkSpec, plug: Plug
) -> None:
    # a guest has one DUID for all its interfaces, even when it was made of the MAC of one of them
    macs = [random_mac(()), random_mac(())]
    guest = plug(network.bridge, macs[0])
    guest.plug(network.bridge, macs[1], "eth1")
    wanted = [reserve(connection, network, mac, 3 + number) for number, mac in enumerate(macs)]
    for number, reservation in enumerate(wanted):
        given = guest.dhcp6(link_layer(macs[0]), iaid=number + 1, interface=f"eth{number}")
        assert given == [str(reservation.ipv6)]
        release(connection, network.name, reservation.mac)


def test_nobody_else_gets_anything(network: NetworkSpec, plug: Plug) -> None:
    mac = random_mac(())
    guest = plug(network.bridge, mac)
    assert guest.dhcp(attempts=1) == []
    assert guest.dhcp6(link_layer(mac)) == []


def test_an_address_goes_to_another_mac_at_once(
    connection: libvirt.virConnect, network: NetworkSpec, mac: str, plug: Plug
) -> None:
    first, second = random_mac(()), mac
    one, two = plug(network.bridge, first), plug(network.bridge, second)
    address = ADDRESSES + 10
    assign(connection, network.name, Reservation(first, address))
    assert one.dhcp()[:1] == [str(address)]
    release(connection, network.name, first)
    assign(connection, network.name, Reservation(second, address))
    assert two.dhcp(attempts=1)[:1] == [str(address)]
    assert holders(connection, network, address) == [second]


def test_a_former_holder_comes_back_with_another_address(
    connection: libvirt.virConnect, network: NetworkSpec, mac: str, plug: Plug
) -> None:
    first, second = random_mac(()), mac
    one, two = plug(network.bridge, first), plug(network.bridge, second)
    assign(connection, network.name, Reservation(first, ADDRESSES + 11))
    assert one.dhcp()[:1] == [str(ADDRESSES + 11)]
    release(connection, network.name, first)
    assign(connection, network.name, Reservation(second, ADDRESSES + 11))
    assign(connection, network.name, Reservation(first, ADDRESSES + 12))
    assert one.dhcp()[:1] == [str(ADDRESSES + 12)]
    assert two.dhcp()[:1] == [str(ADDRESSES + 11)]
    release(connection, network.name, first)


def test_freed_addresses_are_forgotten(
    connection: libvirt.virConnect, network: NetworkSpec, mac: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = connection.storagePoolLookupByName(network.pool)
    reserve(connection, network, mac, 13)
    release(connection, network.name, mac)
    assert any(volume.name().endswith(".freed") for volume in pool.listAllVolumes())
    later = time.time() + 601
    monkeypatch.setattr("hypervisor.network.ledger.time.time", lambda: later)
    release(connection, network.name, mac)
    assert not pool.listAllVolumes()


def test_another_address_for_a_mac(
    connection: libvirt.virConnect, network: NetworkSpec, mac: str, plug: Plug
) -> None:
    guest = plug(network.bridge, mac)
    for number in (20, 21):
        wanted = reserve(connection, network, mac, number)
        assert guest.dhcp(attempts=1)[:1] == [str(wanted.ipv4)]
        assert holders(connection, network, wanted.ipv4) == [mac]


def test_only_ipv6(connection: libvirt.virConnect, network: NetworkSpec, mac: str, plug: Plug) -> None:
    guest = plug(network.bridge, mac)
    address = IPv6Address("fd5e:d13:7::66")
    assign(connection, network.name, Reservation(mac, ipv6=address))
    assert guest.dhcp6(enterprise()) == [str(address)]
    assert guest.dhcp(attempts=1) == []


def test_released(connection: libvirt.virConnect, network: NetworkSpec, mac: str, plug: Plug) -> None:
    guest = plug(network.bridge, mac)
    reserve(connection, network, mac, 30)
    release(connection, network.name, mac)
    release(connection, network.name, mac)
    assert guest.dhcp(attempts=1) == []
    assert mac not in [entry.mac for entry in reservations(connection, network.name)]


def test_repeated(connection: libvirt.virConnect, network: NetworkSpec, mac: str) -> None:
    wanted = reserve(connection, network, mac, 40)
    assert reserve(connection, network, mac, 40) == wanted
    assert [entry for entry in reservations(connection, network.name) if entry.mac == mac] == [wanted]


def test_a_call_that_ended_half_way(
    connection: libvirt.virConnect, network: NetworkSpec, mac: str, plug: Plug
) -> None:
    guest = plug(network.bridge, mac)
    wanted = reserve(connection, network, mac, 41)
    pool = connection.storagePoolLookupByName(network.pool)
    volume = next(item for item in pool.listAllVolumes() if item.name().startswith(mac.replace(":", "")))
    volume.wipe()  # a file without its content
    reserve(connection, network, mac, 41)
    assert guest.dhcp()[:1] == [str(wanted.ipv4)]


def test_refusals(connection: libvirt.virConnect, network: NetworkSpec, mac: str, name: str) -> None:
    wanted = reserve(connection, network, mac, 50)
    with pytest.raises(AddressInUse, match=mac):
        assign(connection, network.name, Reservation(random_mac(()), wanted.ipv4))
    with pytest.raises(AddressInUse, match=mac):
        assign(connection, network.name, Reservation(random_mac(()), ipv6=wanted.ipv6))
    for wrong in ("10.213.0.1", "10.213.255.255", "10.213.0.0", "10.1.1.1"):
        with pytest.raises(InvalidAddress, match=wrong):
            assign(connection, network.name, Reservation(mac, IPv4Address(wrong)))
    subprocess.run(["ip", "link", "add", "tn-uplink", "type", "bridge"], check=True)
    try:
        ensure(connection, NetworkSpec(name, "tn-uplink", mode=Mode.BRIDGE))
        with pytest.raises(NoAddresses, match="not ours"):
            assign(connection, name, Reservation(mac, wanted.ipv4))
    finally:
        subprocess.run(["ip", "link", "delete", "tn-uplink"], check=True)


def test_twenty_at_once(connection: libvirt.virConnect, network: NetworkSpec, plug: Plug) -> None:
    macs = [random_mac(()) for _ in range(20)]
    with ThreadPoolExecutor(20) as threads:
        wanted = list(threads.map(lambda at: reserve(connection, network, macs[at], 60 + at), range(20)))
    known = reservations(connection, network.name)
    assert all(reservation in known for reservation in wanted)
    assert plug(network.bridge, macs[19]).dhcp()[:1] == [str(wanted[19].ipv4)]
    with ThreadPoolExecutor(20) as threads:
        list(threads.map(lambda mac: release(connection, network.name, mac), macs))
    assert not {entry.mac for entry in reservations(connection, network.name)} & set(macs)


def test_two_hundred_stay_quick(connection: libvirt.virConnect, network: NetworkSpec, name: str) -> None:
    many = replace(network, name=name, bridge="tn-many", ipv4=IPv4Interface("10.215.0.1/16"), ipv6=None)
    ensure(connection, many)
    macs = [random_mac(()) for _ in range(200)]
    ledger = Ledger(connection.storagePoolLookupByName(many.pool))
    for number, mac in enumerate(macs):
        ledger.reserve(Reservation(mac, IPv4Address("10.215.1.0") + number))
    begin = time.perf_counter()
    for mac in macs[:20]:
        release(connection, name, mac)
        assign(connection, name, Reservation(mac, IPv4Address("10.215.2.0") + macs.index(mac)))
    # about 25 ms a call, with `nft` started once or twice; an order of magnitude for a busy machine
    assert (time.perf_counter() - begin) / 40 < 0.25
