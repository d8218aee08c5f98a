"""A service for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.conftest import Reach
from tests.devices.kit import World
from tests.service.guest import Identity
from tests.service.host import Host
from tests.service.process import Service


@pytest.fixture(scope="package")
def world(
    tmp_path_factory: pytest.TempPathFactory, host: Host, identity: Identity, reach: Reach
) -> Iterator[World]:
    """A running service with its first account's client."""
    service = Service(tmp_path_factory.mktemp("migration"), host)
    try:
        service.start()
        yield World(service, service.client(), identity, reach)
    finally:
        service.dispose()
