"""What an interface carries between its guest and the bridge."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.devices.kit import World
from tests.service.client import Struct
from tests.service.guest import Guest
from tests.service.process import OPEN_PORT

pytestmark = pytest.mark.guest

# seconds: until the flow is even, and how long it is measured, so many times
SETTLE, WATCH, TIMES = 1.0, 1.0, 4


@pytest.fixture(scope="module")
def vm(world: World) -> Iterator[Struct]:
    """A running VM with an interface of 10 Mbit/s."""
    (made,) = world.vms({"hostname": "slow", "bandwidth": 10240.0})
    yield made
    world.discard(made["id"])


class Peer:
    """A server on the bridge that sends without end, or takes what comes and counts it."""

    def __init__(self, address: str) -> None:
        self._listener = socket.create_server((address, OPEN_PORT))
        self._listener.settimeout(30)
        self.received = 0
        self._connections: list[socket.socket] = []

    def close(self) -> None:
        for one in (*self._connections, self._listener):
            one.close()

    def accept(self, *, send: bool) -> None:
        """Take one connection, in a thread."""
        connection, _ = self._listener.accept()
        self._connections.append(connection)
        connection.settimeout(30)
        target = self._send if send else self._take
        threading.Thread(target=target, args=(connection,), daemon=True).start()

    def _send(self, connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(bytes(1 << 16))
        except OSError:
            return

    def _take(self, connection: socket.socket) -> None:
        try:
            while data := connection.recv(1 << 16):
                self.received += len(data)
        except OSError:
            return


@contextmanager
def peer(world: World) -> Iterator[Peer]:
    """A server on the datacenter's bridge."""
    server = Peer(world.service.datacenters[0].ipv4.split("/")[0])
    try:
        yield server
    finally:
        server.close()


def fastest(looks: list[tuple[float, int]]) -> float:
    """The most Mbit/s between two looks, which are a time and a number of bytes: an emulated guest on a busy
    host may be late in any of them, and no limit is one that was passed in one of them."""
    return max(
        (after - before) * 8 / 1e6 / (end - begin)
        for (begin, before), (end, after) in itertools.pairwise(looks)
    )


def to_guest(world: World, guest: Guest) -> float:
    """Mbit/s of a stream to the guest, as its card counts them."""
    with peer(world) as server:
        host = world.service.datacenters[0].ipv4.split("/")[0]
        thread = threading.Thread(target=server.accept, kwargs={"send": True}, daemon=True)
        thread.start()
        look = "read t _ </proc/uptime; echo $t $(cat /sys/class/net/eth0/statistics/rx_bytes)"
        takes = f"nc {host} {OPEN_PORT} </dev/null >/dev/null &"
        looks = f"; sleep {WATCH:g}; ".join([look] * (TIMES + 1))
        said = guest.run(f"{takes} sleep {SETTLE:g}; {looks}; kill $!")
        thread.join(10)
    return fastest([(float(at), int(count)) for at, count in map(str.split, said.splitlines())])


def from_guest(world: World, guest: Guest) -> float:
    """Mbit/s of a stream from the guest, as it arrives."""
    with peer(world) as server:
        host = world.service.datacenters[0].ipv4.split("/")[0]
        thread = threading.Thread(target=server.accept, kwargs={"send": False}, daemon=True)
        thread.start()
        sends = f"timeout {SETTLE + TIMES * WATCH + 5:g} nc {host} {OPEN_PORT} </dev/zero >/dev/null 2>&1"
        assert guest.run(f"{sends} & echo begun") == "begun"
        thread.join(10)
        time.sleep(SETTLE)
        looks = [(time.monotonic(), server.received)]
        for _ in range(TIMES):
            time.sleep(WATCH)
            looks.append((time.monotonic(), server.received))
    return fastest(looks)


def test_an_interface_carries_what_it_is_given(world: World, vm: Struct) -> None:
    guest = world.reach(vm)
    iface = vm["ifaces_id"][0]

    def carries(least: float, most: float) -> None:
        # a guest that is still starting has no time for the stream
        world.service.agent_answers(vm["id"])
        rates = to_guest(world, guest), from_guest(world, guest)
        print(f"Mbit/s to the guest and from it: {rates}")
        assert all(least < rate < most for rate in rates), rates

    carries(9, 11)
    operation = world.client.call("hosting.iface.update", iface, {"bandwidth": 51200.0})
    assert (operation["type"], operation["iface_id"]) == ("iface_update", iface)
    world.client.done(operation)
    assert world.client.call("hosting.iface.info", iface)["bandwidth"] == 51200.0
    carries(45, 55)
    # a reboot changes nothing
    before = guest.boot_id()
    world.do("reboot", vm["id"])
    guest.rebooted(before)
    carries(45, 55)
    # changed while the VM is off
    world.power_off(vm["id"])
    world.client.done(world.client.call("hosting.iface.update", iface, {"bandwidth": 10000}))
    world.do("start", vm["id"])
    guest.ready()
    carries(9, 11)


def test_an_interface_that_is_plugged_in_is_limited_too(world: World, vm: Struct) -> None:
    guest = world.reach(vm)
    (iface,) = world.ifaces({"bandwidth": 10240.0})
    world.client.done(world.client.call("hosting.iface.update", vm["ifaces_id"][0], {"bandwidth": 102400}))
    world.do("iface_attach", vm["id"], iface["id"])
    # the first one out of the way, so that the second one is used
    other = Guest(iface["ips"][0]["ip"], world.identity).ready()
    world.do("iface_detach", vm["id"], vm["ifaces_id"][0])
    other.ready()
    rate = from_guest(world, other)
    assert 9 < rate < 11, rate
    world.do("iface_attach", vm["id"], vm["ifaces_id"][0])
    guest.ready()
    world.do("iface_detach", vm["id"], iface["id"])
    world.throw_away(ifaces={iface["id"]})


@pytest.mark.parametrize(
    ("bandwidth", "code"),
    [(0, 501037), (0.0, 501837), (-1.0, 501837), (1e12, 501837), ("10", 501810), (None, 501537)],
)
def test_a_wrong_bandwidth_is_refused(world: World, vm: Struct, bandwidth: object, code: int) -> None:
    iface = vm["ifaces_id"][0]
    before = world.client.call("hosting.iface.info", iface)["bandwidth"]
    spec = {} if bandwidth is None else {"bandwidth": bandwidth}
    assert world.client.refusal("hosting.iface.update", iface, spec).faultCode == code
    assert world.client.call("hosting.iface.info", iface)["bandwidth"] == before
