"""Domains without an operating system, as the tests of domains have them."""

from collections.abc import Iterator

import pytest

from hypervisor.connection import Connection
from tests.domain.conftest import connection, lasting, running_network

__all__ = ["connection", "lasting"]

NETWORK = "test-statistics"


@pytest.fixture(scope="session")
def network(lasting: Connection) -> Iterator[str]:
    """A running network without addresses."""
    with running_network(lasting, NETWORK, "ts-bridge"):
        yield NETWORK
