"""Networks on a real libvirt."""

import errno
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

import libvirt
import pytest

from hypervisor.network import (
    Mode,
    NetworkSpec,
    Outcome,
    Reservation,
    assign,
    bridge,
    ensure,
    parse,
    remove,
    render,
    reservations,
)
from hypervisor.network.errors import BridgeInUse, ForeignNetwork, NoBridge, NoNetwork, SubnetInUse
from tests.network.conftest import Plug

pytestmark = pytest.mark.lab

MAC = "52:54:00:00:00:01"


@pytest.fixture
def spec(name: str) -> NetworkSpec:
    return NetworkSpec(
        name, "tn-one", IPv4Interface("10.214.0.1/24"), IPv6Interface("fd5e:d14::1/64"), Mode.ISOLATED
    )


@pytest.fixture
def dummy() -> Iterator[str]:
    """An interface of the host that is no bridge."""
    subprocess.run(["ip", "link", "add", "tn-dummy", "type", "veth", "peer", "name", "tn-peer"], check=True)
    yield "tn-dummy"
    subprocess.run(["ip", "link", "delete", "tn-dummy"], check=True)


@pytest.mark.parametrize("mode", [Mode.NAT, Mode.ROUTED, Mode.ISOLATED])
def test_ensure_and_remove(connection: libvirt.virConnect, spec: NetworkSpec, mode: Mode) -> None:
    spec = replace(spec, mode=mode, domain="dc.test", mtu=1400)
    assert ensure(connection, spec) is Outcome.STARTED
    assert ensure(connection, spec) is Outcome.UNCHANGED
    network = connection.networkLookupByName(spec.name)
    assert network.autostart()
    assert parse(network.XMLDesc()) == parse(network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)) == spec
    assert bridge.exists(spec.bridge)
    assert bridge.addresses()[spec.bridge] == [spec.ipv4, spec.ipv6]
    remove(connection, spec.name)
    remove(connection, spec.name)
    assert not bridge.exists(spec.bridge)
    assert spec.name not in connection.listNetworks() + connection.listDefinedNetworks()
    assert spec.pool not in [pool.name() for pool in connection.listAllStoragePools()]


def test_starts_what_was_stopped(connection: libvirt.virConnect, spec: NetworkSpec) -> None:
    ensure(connection, spec)
    assign(connection, spec.name, Reservation(MAC, IPv4Address("10.214.0.9")))
    connection.networkLookupByName(spec.name).destroy()
    assert ensure(connection, spec) is Outcome.STARTED
    assert len(reservations(connection, spec.name)) == 1


def test_a_change_restarts_an_empty_network(connection: libvirt.virConnect, spec: NetworkSpec) -> None:
    ensure(connection, spec)
    assign(connection, spec.name, Reservation(MAC, IPv4Address("10.214.0.9")))
    changed = replace(spec, mtu=1400)
    assert ensure(connection, changed) is Outcome.RESTARTED
    assert parse(connection.networkLookupByName(spec.name).XMLDesc()) == changed
    assert len(reservations(connection, spec.name)) == 1


def test_a_change_does_not_cut_off_guests(
    connection: libvirt.virConnect, spec: NetworkSpec, dummy: str
) -> None:
    ensure(connection, spec)
    assert bridge.ports(spec.bridge) == []
    subprocess.run(["ip", "link", "set", dummy, "master", spec.bridge], check=True)
    assert bridge.ports(spec.bridge) == [dummy]
    changed = replace(spec, mtu=1400)
    assert ensure(connection, changed) is Outcome.PENDING
    assert bridge.ports(spec.bridge) == [dummy]
    network = connection.networkLookupByName(spec.name)
    assert parse(network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)) == changed
    assert ensure(connection, spec) is Outcome.UNCHANGED


def test_a_bridge_of_the_host(connection: libvirt.virConnect, name: str, dummy: str) -> None:
    with pytest.raises(NoBridge, match="ip link add"):
        ensure(connection, NetworkSpec(name, dummy, mode=Mode.BRIDGE))
    subprocess.run(["ip", "link", "add", "tn-uplink", "type", "bridge"], check=True)
    try:
        assert ensure(connection, NetworkSpec(name, "tn-uplink", mode=Mode.BRIDGE)) is Outcome.STARTED
        assert ensure(connection, NetworkSpec(name, "tn-uplink", mode=Mode.BRIDGE)) is Outcome.UNCHANGED
        remove(connection, name)
        assert bridge.exists("tn-uplink")
    finally:
        subprocess.run(["ip", "link", "delete", "tn-uplink"], check=True)


def test_a_network_of_somebody_else_is_left_alone(connection: libvirt.virConnect, spec: NetworkSpec) -> None:
    xml = render(spec).replace(spec.uuid, "00000000-1111-2222-3333-444444444444")
    foreign = connection.networkDefineXML(xml)
    try:
        for call in (
            lambda: ensure(connection, spec),
            lambda: remove(connection, spec.name),
            lambda: assign(connection, spec.name, Reservation(MAC, IPv4Address("10.214.0.9"))),
        ):
            with pytest.raises(ForeignNetwork, match="left alone"):
                call()
        assert not foreign.isActive()
    finally:
        foreign.undefine()


def test_our_network_keeps_its_bridge(connection: libvirt.virConnect, spec: NetworkSpec) -> None:
    ensure(connection, spec)
    with pytest.raises(ForeignNetwork, match="tn-one, not tn-two"):
        ensure(connection, replace(spec, bridge="tn-two"))


def test_a_bridge_name_in_use(
    connection: libvirt.virConnect, spec: NetworkSpec, network: NetworkSpec, dummy: str
) -> None:
    with pytest.raises(BridgeInUse, match=f"network {network.name} of libvirt"):
        ensure(connection, replace(spec, bridge=network.bridge))
    with pytest.raises(BridgeInUse, match="ip link delete tn-dummy"):
        ensure(connection, replace(spec, bridge=dummy))
    assert spec.name not in connection.listDefinedNetworks()


def test_a_subnet_in_use(
    connection: libvirt.virConnect, spec: NetworkSpec, network: NetworkSpec, dummy: str
) -> None:
    with pytest.raises(SubnetInUse, match=f"network {network.name} of libvirt"):
        ensure(connection, replace(spec, ipv4=IPv4Interface("10.213.7.1/24")))
    subprocess.run(["ip", "address", "add", "10.214.0.77/16", "dev", dummy], check=True)
    with pytest.raises(SubnetInUse, match="interface tn-dummy of this host"):
        ensure(connection, spec)


@pytest.fixture
def elsewhere(connection: libvirt.virConnect) -> Iterator[libvirt.virConnect]:
    """The same libvirt through a socket, which might lead to another host."""
    assert connection.isAlive()
    other = libvirt.open("qemu+unix:///system?socket=/run/libvirt/libvirt-sock")
    yield other
    other.close()


@pytest.fixture
def domain(connection: libvirt.virConnect, spec: NetworkSpec) -> Iterator[libvirt.virDomain]:
    """A paused machine on the network, which `ensure` has to have made by then."""
    ensure(connection, spec)
    domain = connection.createXML(
        f"""<domain type='qemu'><name>{spec.name}</name><memory unit='MiB'>16</memory>
        <os><type>hvm</type></os><devices><interface type='network'>
        <mac address='{MAC}'/><source network='{spec.name}'/></interface>
        </devices></domain>""",
        libvirt.VIR_DOMAIN_START_PAUSED,
    )
    yield domain
    domain.destroy()


def test_a_libvirt_that_may_be_elsewhere(
    elsewhere: libvirt.virConnect, spec: NetworkSpec, domain: libvirt.virDomain
) -> None:
    assert ensure(elsewhere, spec) is Outcome.UNCHANGED
    assert ensure(elsewhere, replace(spec, mtu=1400)) is Outcome.PENDING
    assert list(bridge.taps(domain.XMLDesc())) == [MAC]
    assert bridge.ports(spec.bridge) == list(bridge.taps(domain.XMLDesc()).values())
    reservation = Reservation(MAC, IPv4Address("10.214.0.9"))
    assign(elsewhere, spec.name, reservation)
    assert reservations(elsewhere, spec.name) == [reservation]


def test_reservations_outlive_pool_and_network(connection: libvirt.virConnect, spec: NetworkSpec) -> None:
    ensure(connection, spec)
    first = Reservation(MAC, IPv4Address("10.214.0.9"))
    second = Reservation("52:54:00:00:00:02", IPv4Address("10.214.0.10"))
    assign(connection, spec.name, first)
    connection.networkLookupByName(spec.name).destroy()
    connection.storagePoolLookupByName(spec.pool).destroy()
    assign(connection, spec.name, second)
    assert reservations(connection, spec.name) == [first, second]


def test_no_network(connection: libvirt.virConnect) -> None:
    with pytest.raises(NoNetwork, match="define it first"):
        assign(connection, "test-net-none", Reservation(MAC, IPv4Address("10.214.0.9")))


def test_taps() -> None:
    xml = """<domain><devices>
      <interface type='bridge'><mac address='52:54:00:AA:BB:CC'/><target dev='vnet3'/></interface>
      <interface type='bridge'><mac address='52:54:00:aa:bb:cd'/></interface>
    </devices></domain>"""
    assert bridge.taps(xml) == {"52:54:00:aa:bb:cc": "vnet3"}


def test_the_host_waits_for_a_booting_guest(
    connection: libvirt.virConnect, spec: NetworkSpec, plug: Plug
) -> None:
    ensure(connection, spec)
    plug(spec.bridge, "52:54:00:00:00:02").autoconfigured()  # a bridge with nobody on it is down
    address = "fd5e:d14::77"
    with socket.socket(socket.AF_INET6) as client, ThreadPoolExecutor(1) as pool:
        client.settimeout(30)
        connecting = pool.submit(client.connect_ex, (address, 22))
        # longer than the kernel's own three seconds, after which it says "no route to host"
        with pytest.raises(TimeoutError):
            connecting.result(5)
        guest = plug(spec.bridge, MAC)
        guest.run("ip", "address", "add", f"{address}/64", "dev", "eth0", "nodad")
        # somebody is there now, and refuses because nothing listens
        assert connecting.result(25) == errno.ECONNREFUSED
