"""Connections to libvirt that break on purpose."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

import pytest

from hypervisor.connection import Connection
from hypervisor.events import Event
from tests.connection.daemon import OwnLab
from tests.connection.relay import Relay

Connect = Callable[..., tuple[Connection, "SimpleQueue[Event]"]]

_numbers = itertools.count(1)


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Start a `Connection`; gives it and the queue of its events."""
    with ExitStack() as stack:

        def begin(uri: str, interval: int = 1, count: int = 2) -> tuple[Connection, "SimpleQueue[Event]"]:
            connection = Connection(uri, keepalive_interval=interval, keepalive_count=count)
            events: SimpleQueue[Event] = SimpleQueue()
            stack.enter_context(connection.events.subscribed(events.put))
            stack.callback(connection.stop)
            connection.start()
            return connection, events

        yield begin


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    """A way to the lab's libvirt that can be cut."""
    if "HYPERVISOR_LAB" not in os.environ:
        pytest.skip("needs a libvirtd of its own: python -m hypervisor.lab -- pytest")
    relay = Relay(tmp_path / "socket", "/run/libvirt/libvirt-sock")
    yield relay
    relay.close()


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[OwnLab]:
    """A lab of the test's own, not yet started."""
    if os.geteuid() != 0:
        pytest.skip("a lab needs root")
    lab = OwnLab(f"test-connection-{os.getpid()}-{next(_numbers)}", tmp_path / "lab")
    yield lab
    lab.end()
