"""A network of libvirt's for tests, and guests made of network namespaces instead of machines."""

import itertools
import os
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from pathlib import Path

import libvirt
import pytest

from hypervisor.network import Mode, NetworkSpec, ensure, remove
from tests.network.guest import Guest

Plug = Callable[[str, str], Guest]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def connection() -> Iterator[libvirt.virConnect]:
    """The libvirt of the lab."""
    if "HYPERVISOR_LAB" not in os.environ:
        pytest.skip("needs a libvirtd of its own: python -m hypervisor.lab -- pytest")
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    connection = libvirt.open("qemu:///system")
    yield connection
    connection.close()


@pytest.fixture
def name(connection: libvirt.virConnect) -> Iterator[str]:
    """A name for a network that no other test uses; what bears it is removed."""
    name = f"test-net-{os.getpid()}-{next(_numbers)}"
    yield name
    remove(connection, name, force=True)


@pytest.fixture(scope="module")
def network(connection: libvirt.virConnect) -> Iterator[NetworkSpec]:
    """A running network with IPv4 and IPv6."""
    spec = NetworkSpec(
        "test-net-shared",
        "test-net-shared",
        ip_interface("10.213.0.1/16"),  # type: ignore[arg-type]  # typeshed: of either version
        ip_interface("fd5e:d13:7::1/64"),  # type: ignore[arg-type]
        Mode.ISOLATED,
        "dc.test",
    )
    ensure(connection, spec)
    yield spec
    remove(connection, spec.name, force=True)


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Plug]:
    """Plug a guest with that MAC into that bridge."""
    guests: list[Guest] = []

    def plugged(bridge: str, mac: str) -> Guest:
        guest = Guest(f"tg{os.getpid()}-{next(_numbers)}", tmp_path)
        guests.append(guest)
        guest.plug(bridge, mac)
        return guest

    yield plugged
    for guest in guests:
        guest.remove()
