"""A real guest that is moved from one network to another while it is asked all the time."""

import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_interface

import libvirt
import pytest

from hypervisor.domain import hotplug, power, rewire
from hypervisor.domain.spec import DomainSpec, InterfaceSpec
from hypervisor.network import (
    Mode,
    NetworkSpec,
    Reservation,
    assign,
    bandwidth,
    bridge,
    ensure,
    eui64,
    leases,
    random_mac,
    remove,
)
from tests.network.asker import Asker, answers
from tests.network.machine import tiny
from tests.service.guest import Guest, Identity
from tests.service.waiting import until

pytestmark = pytest.mark.guest

ALIAS = "ua-iface-1"
MAC = random_mac(())
RATE = 4096.0  # kbit/s, which a guest manages that has few turns of the processor
PORT = 5001  # of the host, which the guest reaches
SIZE = 1 << 20  # bytes of a measured stream
Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Place:
    """A network with a reservation of `MAC` on it."""

    spec: NetworkSpec
    reservation: Reservation

    @property
    def addresses(self) -> tuple[Address, ...]:
        assert self.reservation.ipv4 is not None
        assert self.reservation.ipv6 is not None
        return self.reservation.ipv4, self.reservation.ipv6

    @property
    def interface(self) -> InterfaceSpec:
        return InterfaceSpec(ALIAS, MAC, self.spec.name)


@pytest.fixture(scope="module")
def places(connection: libvirt.virConnect) -> Iterator[tuple[Place, Place]]:
    """Two networks, as two datacenters have them."""
    made = []
    for number, letter in enumerate("ab"):
        spec = NetworkSpec(
            f"test-rewire-{letter}",
            f"trewire-{letter}",
            ip_interface(f"10.212.{number}.1/24"),  # type: ignore[arg-type]  # typeshed: of either version
            ip_interface(f"fd5e:d12:{number}::1/64"),  # type: ignore[arg-type]
            Mode.NAT,
        )
        ensure(connection, spec, [PORT])
        assert spec.ipv6 is not None
        reservation = Reservation(
            MAC, IPv4Address(f"10.212.{number}.{20 + number}"), eui64(spec.ipv6, MAC), "moved"
        )
        assign(connection, spec.name, reservation)
        made.append(Place(spec, reservation))
    yield made[0], made[1]
    for one in made:
        remove(connection, one.spec.name, force=True)


@pytest.fixture(scope="module")
def machine(
    connection: libvirt.virConnect,
    places: tuple[Place, Place],
    identity: Identity,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[DomainSpec]:
    """A tiny guest on the first network, off."""
    spec = tiny("test-rewire", places[0].interface, identity, tmp_path_factory.mktemp("rewire"))
    power.define(connection, spec)
    yield spec
    power.undefine(connection, spec.uuid)


@pytest.fixture
def guest(
    connection: libvirt.virConnect, machine: DomainSpec, places: tuple[Place, Place], identity: Identity
) -> Iterator[Guest]:
    """The guest, freshly started, on the first network."""
    power.start(connection, machine.uuid)
    yield Guest(str(places[0].addresses[0]), identity).ready()
    power.cut_off(connection, machine.uuid)


def own_addresses(guest: Guest) -> set[str]:
    """The guest's addresses that are more than link-local."""
    return set(re.findall(r"inet6? ([0-9a-f.:]+)", guest.run("ip addr show dev eth0 scope global")))


def cable_was_in(guest: Guest) -> float:
    """For how many seconds. Within one of the last change, Linux tells of the next late or not at all
    (net/core/link_watch.c): a move then takes another pull, or IPv6 comes seconds after IPv4."""
    now = float(guest.run("cut -d' ' -f1 /proc/uptime"))
    log = guest.run("dmesg").splitlines()
    ready = [float(one[1:].partition("]")[0]) for one in log if "eth0: link becomes ready" in one]
    return now - ready[-1]


def tap(connection: libvirt.virConnect, machine: DomainSpec) -> str:
    return bridge.taps(power.lookup(connection, machine.uuid).XMLDesc())[MAC]


def stream(guest: Guest, gateway: str, *, send: bool) -> float:
    """Mbit/s of a stream to the guest, or from it."""
    took: list[float] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(30)
            begun = time.monotonic()
            if send:
                connection.sendall(bytes(SIZE))
                connection.shutdown(socket.SHUT_WR)
            # the guest closes its end when it has all, or has sent all
            while connection.recv(1 << 16):
                pass
            took.append(time.monotonic() - begun)

    with socket.create_server((gateway, PORT)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        talk = f"nc {gateway} {PORT}"
        if send:
            # an input that stays open, or the guest would close its end at once
            assert guest.run(f"sleep 3 | {talk} | wc -c") == str(SIZE)
        else:
            guest.run(f"dd if=/dev/zero bs=64k count={SIZE >> 16} 2>/dev/null | {talk}")
        thread.join(30)
    return SIZE * 8 / 1e6 / took[0]


def test_a_guest_moves_to_another_network(
    connection: libvirt.virConnect, machine: DomainSpec, places: tuple[Place, Place], guest: Guest
) -> None:
    here, there = places
    until(lambda: own_addresses(guest) == set(map(str, here.addresses)), 20, "both addresses")
    until(lambda: cable_was_in(guest) > 1.5, 20, "the cable is in for a while")
    hotplug.limit(connection, machine.uuid, {ALIAS: RATE})
    boot, device = guest.boot_id(), tap(connection, machine)

    pairs = [(Asker(old), Asker(new)) for old, new in zip(here.addresses, there.addresses, strict=True)]
    for old, _ in pairs:
        old.answered(5)
    begun = time.monotonic()
    rewire.rewire(connection, machine.uuid, there.interface)
    moved = time.monotonic()
    renewed = rewire.renew(connection, machine.uuid, ALIAS, MAC, there.spec.name, there.addresses)
    ended = time.monotonic()
    for old, new in pairs:
        new.answered(5)
        old.end()
        new.end()
    gaps = [new.answers[0] - old.answers[-1] for old, new in pairs]
    print(f"rewire {moved - begun:.3f} s, renew {ended - moved:.3f} s; without an answer: {gaps} s")
    assert renewed
    assert all(one < 1 for one in gaps), gaps

    guest = replace_address(guest, there.addresses[0])
    assert guest.boot_id() == boot
    assert own_addresses(guest) == set(map(str, there.addresses))
    routes = guest.run("ip route; ip -6 route")
    assert f"default via {there.spec.ipv4.ip}" in routes  # type: ignore[union-attr]
    assert "10.212.0." not in routes
    assert "fd5e:d12::" not in routes
    assert not any(answers(address) for address in here.addresses)
    assert power.read_live(connection, machine.uuid).interfaces == (there.interface,)

    # what limits it went with it
    assert tap(connection, machine) == device
    assert bandwidth.read(device) == bandwidth.Limit(RATE, RATE)
    gateway = str(there.spec.ipv4.ip)  # type: ignore[union-attr]
    limited = stream(guest, gateway, send=True), stream(guest, gateway, send=False)
    bandwidth.clear(device)
    free = stream(guest, gateway, send=True), stream(guest, gateway, send=False)
    print(f"Mbit/s to the guest and from it: {limited}, without a limit {free}")
    assert all(one < 5 for one in limited)
    assert all(one > 6 for one in free)

    # again
    asker = Asker(there.addresses[0])
    asker.answered(5)
    rewire.rewire(connection, machine.uuid, there.interface)
    asker.answered(15)
    asker.end()
    waits = [after - before for before, after in zip(asker.answers, asker.answers[1:], strict=False)]
    assert max(waits) < 0.3, waits

    # and back, where it still has a lease
    rewire.rewire(connection, machine.uuid, here.interface)
    assert rewire.renew(connection, machine.uuid, ALIAS, MAC, here.spec.name, here.addresses)
    guest = replace_address(guest, here.addresses[0])
    until(lambda: own_addresses(guest) == set(map(str, here.addresses)), 5, "both addresses")
    assert guest.boot_id() == boot


def replace_address(guest: Guest, address: Address) -> Guest:
    return Guest(str(address), guest.identity)


def test_a_deaf_guest_is_left_to_itself(
    connection: libvirt.virConnect, machine: DomainSpec, places: tuple[Place, Place], guest: Guest
) -> None:
    here, there = places
    # killed, they leave the addresses where they are
    guest.run("killall -9 udhcpc dhcpcd")
    rewire.rewire(connection, machine.uuid, there.interface)
    assert not rewire.renew(connection, machine.uuid, ALIAS, MAC, there.spec.name, there.addresses[:1])
    rewire.rewire(connection, machine.uuid, here.interface)
    assert not answers(here.addresses[0], 0.5)
    # the lease that it had here is not a new one because it has another name meanwhile
    named = replace(here.reservation, hostname="renamed")
    naming = threading.Timer(0.5, assign, (connection, here.spec.name, named))
    naming.start()
    try:
        assert not rewire.renew(connection, machine.uuid, ALIAS, MAC, here.spec.name, here.addresses)
        assert "renamed" in {one.hostname for one in leases(connection, here.spec.name)}
    finally:
        naming.join()
        assign(connection, here.spec.name, here.reservation)
    assert answers(here.addresses[0])


def test_an_interface_of_a_machine_that_is_off_is_left_alone(
    connection: libvirt.virConnect, machine: DomainSpec, places: tuple[Place, Place]
) -> None:
    _, there = places
    rewire.rewire(connection, machine.uuid, there.interface)
    rewire.pull_cable(connection, machine.uuid, ALIAS)
    rewire.plug_cable(connection, machine.uuid, ALIAS)
    assert not rewire.renew(connection, machine.uuid, ALIAS, MAC, there.spec.name, there.addresses)
    assert power.read(connection, machine.uuid) == replace(machine, hotplug_ports=8)
    rewire.rewire(connection, str(uuid.uuid4()), there.interface)
