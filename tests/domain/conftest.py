"""Real domains without an operating system: firmware that finds nothing to boot."""

import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import libvirt
import pytest

from hypervisor.connection import Connection
from hypervisor.domain import power
from hypervisor.domain.spec import DiskSpec, DomainSpec, InterfaceSpec
from hypervisor.events import Event, Kind

NewSpec = Callable[..., DomainSpec]

NETWORK = "test-domain"
_numbers = itertools.count(1)


class Seen:
    """The events of one domain, in order."""

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        self._events: SimpleQueue[Event] = SimpleQueue()

    def take(self, event: Event) -> None:
        # that it was defined may still be on its way when a test begins
        if event.uuid == self._uuid and event.kind is not Kind.DEFINED:
            self._events.put(event)

    def next(self) -> Kind:
        """The kind of the next event; waits up to 10 seconds for it."""
        return self._events.get(timeout=10).kind

    @property
    def empty(self) -> bool:
        return self._events.empty()


@pytest.fixture(scope="session")
def lasting() -> Iterator[Connection]:
    """The connection to the lab's libvirt, with events."""
    if "HYPERVISOR_LAB" not in os.environ:
        pytest.skip("needs a libvirtd of its own: python -m hypervisor.lab -- pytest")
    connection = Connection("qemu:///system")
    connection.start()
    yield connection
    connection.stop()


@pytest.fixture
def connection(lasting: Connection) -> libvirt.virConnect:
    """The handle of the lab's libvirt."""
    return lasting.handle(wait=10)


@pytest.fixture(scope="session")
def network(lasting: Connection) -> Iterator[str]:
    """A running network without addresses."""
    with running_network(lasting, NETWORK, "td-bridge"):
        yield NETWORK


@contextmanager
def running_network(lasting: Connection, name: str, bridge: str) -> Iterator[None]:
    """Have a network without addresses."""
    handle = lasting.handle(wait=10).networkCreateXML(
        f"<network><name>{name}</name><bridge name='{bridge}'/></network>"
    )
    yield
    handle.destroy()


@pytest.fixture
def new_spec(connection: libvirt.virConnect) -> Iterator[NewSpec]:
    """Describe domains that no other test uses; what became of them is removed."""
    made: list[str] = []

    def make(**values: Any) -> DomainSpec:
        made.append(str(uuid.uuid4()))
        standard: dict[str, Any] = {
            "name": f"test-{os.getpid()}-{next(_numbers)}",
            "vcpus": 1,
            "max_vcpus": 2,
            "memory": 64,
            "max_memory": 128,
            "accelerated": False,
            "labels": {"vm": "1"},
        }
        return DomainSpec(uuid=made[-1], **{**standard, **values})

    yield make
    for one in made:
        with suppress(libvirt.libvirtError):
            connection.lookupByUUIDString(one).undefine()
        with suppress(libvirt.libvirtError):
            connection.lookupByUUIDString(one).destroy()


@pytest.fixture
def machine(connection: libvirt.virConnect, new_spec: NewSpec) -> DomainSpec:
    """A domain that is defined and off."""
    spec = new_spec()
    power.define(connection, spec)
    return spec


@pytest.fixture
def seen(lasting: Connection, machine: DomainSpec) -> Iterator[Seen]:
    """The events of `machine`."""
    seen = Seen(machine.uuid)
    with lasting.events.subscribed(seen.take):
        yield seen


def disks(count: int, folder: Path = Path("/tmp")) -> tuple[DiskSpec, ...]:
    """So many disks."""
    return tuple(
        DiskSpec(
            f"ua-disk-{number}",
            folder / f"disk {number} <&\"'é.qcow2",
            f"vd{chr(ord('a') + number)}",
            readonly=number % 2 == 1,
            boot=1 if number == 0 else None,
            serial=f"disk-{number}",
        )
        for number in range(count)
    )


def interfaces(count: int) -> tuple[InterfaceSpec, ...]:
    """So many interfaces."""
    return tuple(
        InterfaceSpec(f"ua-iface-{number}", f"52:54:00:00:01:{number:02x}", NETWORK)
        for number in range(count)
    )
