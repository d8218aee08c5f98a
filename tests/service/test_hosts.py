"""The datacenters' libvirts, without one: libvirt's own test driver, and a socket that nobody answers."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

import pytest

from api.operations.hosts import Hosts, Prepare
from api.operations.latecomers import Latecomers
from api.operations.pools import Pools
from api.store.database import Store
from api.store.models import Datacenter
from api.store.schema import upgrade
from hypervisor.connection import Handle
from hypervisor.errors import HypervisorError
from hypervisor.events import Event, Kind
from hypervisor.libvirt_errors import Unavailable
from hypervisor.storage.pool import Room
from tests.methods.world import datacenter
from tests.service.waiting import until

TEST = "test:///default"
NOBODY = "qemu+unix:///system?socket=/nonexistent/socket"
HERE, THERE, OWN = 1, 2, 3


def places() -> list[Datacenter]:
    """One datacenter on a libvirt that answers, one on a host that does not, one on the service's own."""
    return [
        datacenter("FR-SD5", "FR", "Bissy", "France", id=HERE, libvirt_uri=TEST, pool="default-pool"),
        datacenter("LU-BI1", "LU", "Bissen", "Luxembourg", id=THERE, libvirt_uri=NOBODY),
        datacenter("US-BA1", "US", "Baltimore", "United States", id=OWN, pool="default-pool"),
    ]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """What is stopped at the end of the test."""
    with ExitStack() as stack:
        yield stack


def begun(opened: ExitStack, prepare: Prepare | None = None) -> Hosts:
    """The hosts of the three."""
    hosts = Hosts(TEST, places(), prepare)
    hosts.start()
    opened.callback(hosts.stop)
    return hosts


def test_one_connection_for_each_uri(opened: ExitStack) -> None:
    hosts = begun(opened)
    assert hosts.places == {TEST: [HERE, OWN], NOBODY: [THERE]}
    assert (hosts.uri(HERE), hosts.uri(THERE), hosts.uri(OWN)) == (TEST, NOBODY, TEST)
    assert hosts.at(TEST) is hosts.at(hosts.uri(OWN))
    assert hosts.handle(HERE, wait=5) is hosts.handle(OWN)
    with pytest.raises(HypervisorError, match=r"datacenter#7 was not there .* restart the service"):
        hosts.handle(7)


def test_a_host_that_does_not_answer_is_named_and_delays_no_other(opened: ExitStack) -> None:
    hosts = begun(opened)
    hosts.at(NOBODY)
    began = time.monotonic()
    assert hosts.handle(HERE, wait=5).getHostname()
    with pytest.raises(
        Unavailable, match=re.escape(f"datacenter LU-BI1: libvirt at {NOBODY} does not answer")
    ):
        hosts.handle(THERE, wait=0)
    assert time.monotonic() - began < 4


def test_one_that_has_been_away_is_not_waited_for_as_long(
    opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.operations.hosts._LATE", 0.5)
    hosts = begun(opened)
    began = time.monotonic()
    for longest in (2.5, 1.0):
        with pytest.raises(Unavailable) as caught:
            hosts.handle(THERE, wait=2)
        # a job tells by it that no call was under way
        assert caught.value.__cause__ is None
        assert time.monotonic() - began < longest
        began = time.monotonic()


def test_prepared_once_and_before_anybody_has_the_handle(opened: ExitStack) -> None:
    done: list[int] = []
    failing = True

    def prepare(handle: Handle, datacenter_id: int) -> None:
        assert handle.isAlive()
        if failing:
            raise HypervisorError("its bridge is taken")
        done.append(datacenter_id)

    hosts = begun(opened, prepare)
    with pytest.raises(HypervisorError, match="its bridge is taken"):
        hosts.handle(HERE, wait=5)
    failing = False
    threads = [threading.Thread(target=hosts.handle, args=(HERE,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [HERE]
    hosts.handle(OWN)
    assert done == [HERE, OWN]


def test_what_is_told_says_by_whom(opened: ExitStack) -> None:
    hosts = begun(opened)
    events: SimpleQueue[Event] = SimpleQueue()
    opened.enter_context(hosts.events.subscribed(events.put))
    domain = hosts.handle(HERE, wait=5).lookupByName("test")
    told = events.get(timeout=5)
    assert (told, told.origin) == (Event(Kind.RESYNC), TEST)
    domain.suspend()
    told = events.get(timeout=5)
    assert (told, told.origin) == (Event(Kind.SUSPENDED, domain.UUIDString()), TEST)
    # the driver keeps it in this process
    domain.resume()


@pytest.mark.parametrize(
    ("own", "uri", "near"),
    [
        ("qemu:///system", None, True),
        ("qemu+unix:///system?socket=/run/other", None, True),
        ("qemu:///system", "qemu+unix:///system?socket=/run/other", False),
        ("qemu:///system", "qemu+ssh://root@there.example/system", False),
        ("qemu+tls://there.example/system", None, False),
        ("qemu+tls://there.example/system", "qemu:///system", True),
    ],
)
def test_whose_guests_are_on_this_machine(own: str, uri: str | None, near: bool) -> None:
    one = datacenter("FR-SD5", "FR", "Bissy", "France", id=HERE, libvirt_uri=uri)
    assert Hosts(own, [one]).is_near(HERE) is near


def test_the_room_in_one_pool_is_known_while_the_other_host_is_away(
    opened: ExitStack, tmp_path: Path
) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    opened.callback(store.close)
    upgrade(store)
    here, there, own = places()
    with store.writing() as session:
        session.add_all([here, there, own])
    pools = Pools(store, begun(opened))
    pools.start()
    opened.callback(pools.stop)
    until(lambda: pools(here).active and pools(own).active, 5, "both pools are seen")
    assert pools(there) == Room(active=False, free=0)


def test_latecomers_are_welcomed_when_a_connection_is_new(opened: ExitStack) -> None:
    hosts = begun(opened)
    tried: list[int] = []
    there = threading.Event()

    def welcome(datacenter_id: int) -> None:
        tried.append(datacenter_id)
        if datacenter_id == THERE and not there.is_set():
            raise Unavailable("away")

    latecomers = Latecomers(hosts, [HERE, THERE], welcome)
    opened.enter_context(hosts.events.subscribed(latecomers))
    latecomers.start()
    opened.callback(latecomers.stop)
    until(lambda: tried == [HERE, THERE], 5, "both are tried at the start")
    hosts.events.publish(Event(Kind.STOPPED, "0"))
    there.set()
    hosts.events.publish(Event(Kind.RESYNC))
    until(lambda: tried[2:] == [THERE], 5, "the one that was away is tried again")
    hosts.events.publish(Event(Kind.RESYNC))
    latecomers.stop()
    assert tried == [HERE, THERE, THERE]
