"""The service under faults, for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.faults.town import Town, founded
from tests.service.host import Host


@pytest.fixture(scope="package")
def town(tmp_path_factory: pytest.TempPathFactory, host: Host) -> Iterator[Town]:
    """A running service with machines, disks and interfaces."""
    with founded(tmp_path_factory.mktemp("faults"), host) as made:
        yield made
