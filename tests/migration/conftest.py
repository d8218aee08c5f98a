"""A service for the tests of this folder."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import Reach
from tests.devices.kit import World
from tests.migration.two_hosts import TwoHosts
from tests.service.guest import Identity
from tests.service.host import Host
from tests.service.process import Service

# MiB/s: slow enough for a copy to be met while it is under way
_BANDWIDTH = "60"


@pytest.fixture(scope="package")
def world(
    tmp_path_factory: pytest.TempPathFactory, host: Host, identity: Identity, reach: Reach
) -> Iterator[World]:
    """A running service with its first account's client. Its second pool is a file system of its own, whose
    space can be taken away."""
    folder = tmp_path_factory.mktemp("migration")
    service = Service(folder, host, {"HYPERVISOR_MIGRATION__BANDWIDTH": _BANDWIDTH})
    second = service.pools / service.datacenters[1].pool
    second.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64g", "tmpfs", second], check=True)
    try:
        service.start()
        yield World(service, service.client(), identity, reach)
    finally:
        service.dispose()
        subprocess.run(["umount", "--lazy", second], check=True)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, host: Host, identity: Identity) -> Iterator[TwoHosts]:
    """Two hosts and their service."""
    made = TwoHosts(tmp_path_factory.mktemp("between"), host, identity)
    try:
        made.begin()
        yield made
    finally:
        made.end()
