"""What a tap carries under a limit, measured with real traffic."""

import errno
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from hypervisor.network import bandwidth, bridge, random_mac
from hypervisor.network.bandwidth import Limit
from hypervisor.network.errors import NoShaping
from hypervisor.network.traffic import ifb_of
from tests.network.conftest import Plug
from tests.network.guest import Guest

pytestmark = pytest.mark.lab

STREAM = Path(__file__).with_name("stream.py")
BRIDGE = "tn-shaped"


@pytest.fixture(scope="module", autouse=True)
def _lab() -> None:
    if "HYPERVISOR_LAB" not in os.environ:
        pytest.skip("needs a network of its own: python -m hypervisor.lab -- pytest")


@pytest.fixture
def pair(plug: Plug) -> Iterator[tuple[Guest, Guest]]:
    """Two guests on one bridge, 10.215.0.1 and 10.215.0.2."""
    subprocess.run(["ip", "link", "add", BRIDGE, "up", "type", "bridge"], check=True)
    try:
        guests = plug(BRIDGE, random_mac(())), plug(BRIDGE, random_mac(()))
        for number, guest in enumerate(guests, 1):
            guest.run("ip", "address", "add", f"10.215.0.{number}/24", "dev", "eth0")
        yield guests
    finally:
        bandwidth.sweep()
        subprocess.run(["ip", "link", "delete", BRIDGE], check=True)


@pytest.fixture
def tap() -> Iterator[str]:
    """An interface like a guest's tap, without a guest."""
    subprocess.run(["ip", "tuntap", "add", "tn-tap", "mode", "tap"], check=True)
    yield "tn-tap"
    subprocess.run(["ip", "link", "delete", "tn-tap"], check=False, capture_output=True)
    bandwidth.sweep()


class Stream:
    """TCP from one guest to another."""

    def __init__(self, source: Guest, sink: Guest, address: str) -> None:
        self._sink = _start(sink, "sink", address)
        assert self._sink.stdout is not None
        assert self._sink.stdout.readline() == "ready\n"
        self._source = _start(source, "source", address)

    def received(self) -> int:
        """The bytes that have arrived."""
        assert self._sink.stdin is not None
        assert self._sink.stdout is not None
        self._sink.stdin.write("\n")
        self._sink.stdin.flush()
        return int(self._sink.stdout.readline())

    def stop(self) -> None:
        for process in (self._source, self._sink):
            process.kill()
            process.communicate()


def _start(guest: Guest, *arguments: str) -> "subprocess.Popen[str]":
    command = ["ip", "netns", "exec", guest.name, sys.executable, str(STREAM), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def sent(interface: str) -> int:
    """The bytes that left by the interface, behind its bucket."""
    return int(Path(f"/sys/class/net/{interface}/statistics/tx_bytes").read_text())


def speeds(stream: Stream, interface: str, seconds: float) -> tuple[float, float]:
    """Mbit/s that arrived, and that left by the interface."""
    begin, before = time.monotonic(), (stream.received(), sent(interface))
    time.sleep(seconds)
    after, elapsed = (stream.received(), sent(interface)), time.monotonic() - begin
    return (after[0] - before[0]) * 8e-6 / elapsed, (after[1] - before[1]) * 8e-6 / elapsed


def steady(stream: Stream, interface: str, least: float, most: float) -> tuple[float, float]:
    """`speeds` at the first of four looks at which nothing else held the stream back. Never more than `most`
    leaves by the interface; what arrives may have waited for a reader that had no processor."""
    for _ in range(4):
        found = speeds(stream, interface, 1.5)
        assert found[1] <= most, found
        if min(found) >= least:
            return found
    raise AssertionError(f"less than {least} Mbit/s at four looks: {found} at the last")


@pytest.mark.parametrize("direction", ["to the guest", "from the guest"])
def test_carries_what_it_should(pair: tuple[Guest, Guest], direction: str) -> None:
    guest, other = pair
    tap = guest.tap()
    bandwidth.limit(tap, 10_000)
    if direction == "to the guest":
        stream, interface = Stream(other, guest, "10.215.0.1"), tap
    else:
        stream, interface = Stream(guest, other, "10.215.0.2"), ifb_of(tap)
    try:
        time.sleep(0.5)  # what the bucket held at first is not the rate
        at_10 = steady(stream, interface, 9, 11)
        bandwidth.limit(tap, 50_000)
        time.sleep(0.5)
        at_50 = steady(stream, interface, 45, 55)
        # packets that wait now are larger than the new bucket
        bandwidth.limit(tap, 1_000)
        at_1 = speeds(stream, interface, 2)
    finally:
        stream.stop()
    print(at_10, at_50, at_1)
    assert all(0.5 <= speed <= 1.3 for speed in at_1), at_1


def test_a_change_keeps_what_waits(pair: tuple[Guest, Guest]) -> None:
    tap = pair[0].tap()
    subprocess.run(["ip", "address", "add", "10.215.0.254/24", "broadcast", "+", "dev", BRIDGE], check=True)
    bandwidth.limit(tap, 64)
    before = sent(tap)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for _ in range(10):
            sender.sendto(bytes(1000), ("10.215.0.255", 9))
    assert sent(tap) - before < 5000
    begin = time.monotonic()
    bandwidth.limit(tap, 10_000)
    while sent(tap) - before < 10 * 1042:
        assert time.monotonic() - begin < 0.6, sent(tap) - before  # at the former rate they take a second


def descriptors() -> list[str]:
    """What this process holds open."""
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def test_set_change_and_clear(tap: str) -> None:
    assert bandwidth.read(tap) is None
    bandwidth.limit(tap, 64)
    assert bandwidth.read(tap) == Limit(64, 64)
    rates = [10_000, 10_000, 64, 10e6, 34e6, 1, 102_400]
    begin, before = time.monotonic(), descriptors()
    for rate in rates:
        bandwidth.limit(tap, rate)
        assert bandwidth.read(tap) == Limit(rate, rate)
    print(f"limit and read: {(time.monotonic() - begin) / len(rates) * 1000:.1f} ms")
    assert descriptors() == before
    bandwidth.limit(tap, 100e6)
    assert bandwidth.read(tap) is None
    assert not bridge.interface_exists(ifb_of(tap))
    bandwidth.clear(tap)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="above 0"):
            bandwidth.limit(tap, wrong)


def test_repairs_what_was_taken_away(tap: str) -> None:
    bandwidth.limit(tap, 1000)
    subprocess.run(["ip", "link", "delete", ifb_of(tap)], check=True)
    assert bandwidth.read(tap) == Limit(1000, None)
    bandwidth.limit(tap, 1000)
    subprocess.run(["tc", "qdisc", "delete", "dev", tap, "root"], check=True)
    assert bandwidth.read(tap) == Limit(None, 1000)
    bandwidth.limit(tap, 1000)
    subprocess.run(["tc", "qdisc", "delete", "dev", tap, "ingress"], check=True)
    bandwidth.limit(tap, 1000)
    assert bandwidth.read(tap) == Limit(1000, 1000)


def test_many_at_once(tap: str) -> None:
    rates = range(1000, 1040)
    with ThreadPoolExecutor(8) as together:
        list(together.map(lambda rate: bandwidth.limit(tap, rate), rates))
    found = bandwidth.read(tap)
    assert found is not None
    assert found.to_guest == found.from_guest
    assert found.to_guest in rates


@pytest.mark.parametrize("name", ["tn-tap", "tn-long-name-15"])
def test_sweeps_what_is_left(name: str) -> None:
    for interface in (name, "tn-other"):
        subprocess.run(["ip", "tuntap", "add", interface, "mode", "tap"], check=True)
        bandwidth.limit(interface, 1000)
    subprocess.run(["ip", "link", "add", "tn-foreign", "type", "ifb"], check=True)
    try:
        assert bandwidth.sweep() == []
        subprocess.run(["ip", "link", "delete", name], check=True)
        bandwidth.limit(name, 2000)
        assert bandwidth.read(name) is None
        assert bandwidth.sweep() == [ifb_of(name)]
        assert bandwidth.read("tn-other") == Limit(1000, 1000)
        assert bridge.interface_exists("tn-foreign")
        # or by its name, when it is known which one went
        subprocess.run(["ip", "link", "delete", "tn-other"], check=True)
        bandwidth.clear("tn-other")
        assert bandwidth.sweep() == []
    finally:
        subprocess.run(["ip", "link", "delete", "tn-foreign"], check=True)


class Kernel:
    """The kernel, with something done before each call that would change it."""

    def __init__(self, before: Callable[[str, str], None]) -> None:
        self._kernel = IPRoute()
        self._before = before

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def link(self, command: str, **options: Any) -> Any:
        self._before(command, options.get("kind", ""))
        return self._kernel.link(command, **options)

    def tc(self, command: str, kind: str = "", *arguments: Any, **options: Any) -> Any:
        self._before(command, kind)
        return self._kernel.tc(command, kind or None, *arguments, **options)


@pytest.mark.parametrize(
    ("kind", "code", "module", "left"),
    [
        ("ifb", errno.EOPNOTSUPP, "modprobe ifb", Limit(1000, None)),
        ("tbf", errno.ENOENT, "modprobe sch_tbf", None),
        ("ingress", errno.ENOENT, "modprobe sch_ingress", Limit(1000, None)),
        ("u32", errno.ENOENT, "modprobe cls_u32` and `modprobe act_mirred", Limit(1000, None)),
        ("u32", errno.EPERM, "bandwidth of tn-tap", Limit(1000, None)),
    ],
)
def test_a_kernel_without(
    tap: str, monkeypatch: pytest.MonkeyPatch, kind: str, code: int, module: str, left: Limit | None
) -> None:
    def refuse(_command: str, wanted: str) -> None:
        if wanted == kind:
            raise NetlinkError(code, "not here")

    monkeypatch.setattr(bandwidth, "IPRoute", lambda: Kernel(refuse))
    with pytest.raises(NoShaping, match=module):
        bandwidth.limit(tap, 1000)
    assert bandwidth.read(tap) == left


@pytest.mark.parametrize("step", range(8))
def test_a_tap_that_goes_meanwhile(tap: str, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    steps = itertools.count()

    def vanish(_command: str, _kind: str) -> None:
        if next(steps) == step:
            subprocess.run(["ip", "link", "delete", tap], check=True)

    monkeypatch.setattr(bandwidth, "IPRoute", lambda: Kernel(vanish))
    bandwidth.limit(tap, 1000)
    monkeypatch.undo()
    assert bandwidth.read(tap) is None
    bandwidth.sweep()
    assert not bridge.interface_exists(ifb_of(tap))


def test_taps() -> None:
    xml = """<domain><devices>
      <interface type='bridge'><mac address='52:54:00:AA:BB:CC'/><target dev='vnet3'/></interface>
      <interface type='bridge'><mac address='52:54:00:aa:bb:cd'/></interface>
    </devices></domain>"""
    assert bridge.taps(xml) == {"52:54:00:aa:bb:cc": "vnet3"}
