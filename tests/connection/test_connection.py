"""The connection, when libvirt comes, goes, dies and hangs."""

import gc
import logging
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import libvirt
import pytest

from hypervisor.connection import Connection, answers
from hypervisor.domain import power
from hypervisor.events import Event, Kind
from hypervisor.libvirt_errors import Unavailable, explained
from tests.connection.conftest import Connect
from tests.connection.daemon import OwnLab
from tests.connection.relay import Relay

NOBODY = "qemu+unix:///system?socket=/nonexistent/socket"
TEST = "test:///default"
# the driver's own domain, the same in each connection
TEST_DOMAIN = "6695eb01-f6a4-8304-79aa-97f2502e193f"


def wait_for(events: "SimpleQueue[Event]", kind: Kind, patience: float = 20) -> Event:
    deadline = time.monotonic() + patience
    while (event := events.get(timeout=deadline - time.monotonic())).kind is not kind:
        pass
    return event


def test_events_come_in_order(connect: Connect) -> None:
    connection, events = connect(TEST)
    handle = connection.handle(wait=5)
    assert events.get(timeout=5) == Event(Kind.RESYNC)
    domain = handle.lookupByUUIDString(TEST_DOMAIN)
    for call in (domain.suspend, domain.resume, domain.destroy, domain.create):
        call()
    seen = [events.get(timeout=5) for _ in range(4)]
    assert seen == [
        Event(kind, TEST_DOMAIN) for kind in (Kind.SUSPENDED, Kind.RESUMED, Kind.STOPPED, Kind.STARTED)
    ]


def test_no_libvirt(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    connection, events = connect(NOBODY)
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="is libvirtd running"):
        connection.handle()
    assert time.monotonic() - begun < 0.1
    with pytest.raises(Unavailable):
        connection.handle(wait=0.5)
    assert 0.5 <= time.monotonic() - begun < 1
    assert events.empty()
    (said,) = caplog.messages  # once, not at each attempt
    assert said.startswith(f"libvirt at {NOBODY} does not answer, trying on: Failed to connect socket")


def test_stop_while_disconnected_frees_who_waits(connect: Connect) -> None:
    connection, _ = connect(NOBODY)
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(connection.handle, 30) for _ in range(8)]
        begun = time.monotonic()
        connection.stop()
        for one in waiting:
            with pytest.raises(Unavailable):
                one.result(timeout=5)
        assert time.monotonic() - begun < 1
    connection.stop()


def test_stop_before_start() -> None:
    Connection(NOBODY).stop()


def test_handle_serves_many_threads(connect: Connect, relay: Relay) -> None:
    connection, _ = connect(relay.uri)

    def ask(_number: int) -> int:
        return int(connection.handle(wait=10).getLibVersion())

    with ThreadPoolExecutor(32) as pool:
        assert len(set(pool.map(ask, range(200)))) == 1
    # each has its own, and keeps it
    here = connection.handle()
    assert connection.handle() is here
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(connection.handle).result() is not here
    connection.stop()
    with pytest.raises(Unavailable):
        connection.handle(wait=10)


def test_reconnects_leave_nothing_behind(connect: Connect, relay: Relay) -> None:
    connection, events = connect(relay.uri)

    def ask_on(handle: libvirt.virConnect) -> None:
        with explained("version"):
            while True:
                handle.getLibVersion()

    def reconnect() -> None:
        wait_for(events, Kind.RESYNC)
        used = connection.handle()
        assert relay.accepted.acquire(timeout=5)
        relay.cut()
        with pytest.raises(Unavailable, match="is libvirtd running"):
            ask_on(used)

    for _ in range(3):
        reconnect()
    before = (len(list(Path("/proc/self/fd").iterdir())), threading.active_count())
    for _ in range(20):
        reconnect()
    wait_for(events, Kind.RESYNC)
    gc.collect()
    after = (len(list(Path("/proc/self/fd").iterdir())), threading.active_count())
    assert after[0] <= before[0] + 4  # the two pairs of the relay that are on their way out
    assert after[1] <= before[1] + 2


def test_calls_from_many_threads_survive_the_cuts(connect: Connect, relay: Relay) -> None:
    """Nobody may close the connection under a thread that is in a call."""
    connection, events = connect(relay.uri)
    ended = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        while not ended.is_set():
            try:
                with explained("list"):
                    connection.handle(wait=10).listAllDomains()
            except Unavailable:
                continue
            except BaseException as error:
                failures.append(error)
                raise

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(work)
        for _ in range(15):
            wait_for(events, Kind.RESYNC)
            relay.cut()
        wait_for(events, Kind.RESYNC)
        ended.set()
    assert failures == []


def test_a_subscriber_that_is_slow_or_fails_holds_nobody_up(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    connection, events = connect(TEST)
    domain = connection.handle(wait=5).lookupByUUIDString(TEST_DOMAIN)
    wait_for(events, Kind.RESYNC)
    gate = threading.Event()

    def slow(_event: Event) -> None:
        gate.wait(10)
        raise ValueError("no use")

    with connection.events.subscribed(slow):
        begun = time.monotonic()
        for _ in range(50):
            domain.suspend()
            domain.resume()
        assert time.monotonic() - begun < 1
        gate.set()
        assert [events.get(timeout=5).kind for _ in range(100)] == [Kind.SUSPENDED, Kind.RESUMED] * 50
    assert "a subscriber failed" in caplog.text


def test_libvirt_says_nothing_on_stderr(connect: Connect, capfd: pytest.CaptureFixture[str]) -> None:
    connection, _ = connect(TEST)
    with pytest.raises(libvirt.libvirtError):
        connection.handle(wait=5).lookupByName("nobody")
    assert not answers(NOBODY)
    assert capfd.readouterr() == ("", "")


@pytest.mark.lab
def test_libvirtd_comes_late_dies_and_hangs(connect: Connect, own_lab: OwnLab) -> None:
    connection, events = connect(own_lab.uri)
    assert events.empty()
    own_lab.start()
    wait_for(events, Kind.RESYNC)
    assert answers(own_lab.uri)

    own_lab.signal(signal.SIGKILL)
    wait_for(events, Kind.RESYNC)
    handle = connection.handle()
    _define(handle)
    wait_for(events, Kind.DEFINED, 5)  # the events were registered again

    own_lab.signal(signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        power.states(handle)
    with pytest.raises(Unavailable):
        connection.handle(wait=1)
    assert time.monotonic() - begun < 6  # 2 messages without an answer, 1 second each
    assert not answers(own_lab.uri, patience=0.5)
    own_lab.signal(signal.SIGCONT)
    wait_for(events, Kind.RESYNC)
    assert connection.handle().listAllDomains()[0].name() == "one"


@pytest.mark.lab
def test_stop_while_libvirtd_hangs(
    connect: Connect, own_lab: OwnLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypervisor.connection._STOP_PATIENCE", 0.5)
    own_lab.start()
    own_lab.signal(signal.SIGSTOP)
    before = set(threading.enumerate())
    connection, _ = connect(own_lab.uri)
    (keeper,) = (one for one in set(threading.enumerate()) - before if one.name == "libvirt-connection")
    begun = time.monotonic()
    connection.stop()
    assert time.monotonic() - begun < 2
    own_lab.signal(signal.SIGCONT)
    keeper.join(10)  # what was in the middle of opening lets go of it
    assert not keeper.is_alive()
    with pytest.raises(Unavailable):
        connection.handle()


def _define(handle: libvirt.virConnect) -> None:
    handle.defineXML(
        "<domain type='qemu'><name>one</name><memory>65536</memory><os><type>hvm</type></os></domain>"
    )
