"""The real service and its guests, for every test that wants them."""

import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.coverage import recorder
from tests.service.client import Client, Struct, address
from tests.service.guest import BOOT, Guest, Identity, make_identity
from tests.service.host import Host
from tests.service.process import LIVING, Service

NewService = Callable[..., Service]
Reach = Callable[..., Guest]

# how long one example takes says how busy the machine is
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")

# a shell starts what is in the background with it ignored, and the programs under test inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the services wrote when a test fails."""
    report = yield
    if report.failed:
        for one in LIVING:
            report.sections.append((f"the end of the log of service {one.number}", one.log[-4000:]))
    return report


def pytest_sessionfinish() -> None:
    """Leave what the clients saw, for the whole run's recording."""
    recorder.leave()


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """The lab's libvirt."""
    host = Host()
    yield host
    host.close()


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """The ssh key that the tests log in with."""
    return make_identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, host: Host) -> Iterator[Service]:
    """One running service for all tests that leave it as it was, with short patience."""
    running = Service(tmp_path_factory.mktemp("service"), host)
    try:
        yield running.start()
    finally:
        running.dispose()


@pytest.fixture(scope="session")
def client(service: Service) -> Client:
    """The client of the first account of `service`."""
    return service.client()


@pytest.fixture(scope="session")
def stranger(service: Service) -> Client:
    """The client of another account of `service`."""
    return service.another_account()


@pytest.fixture
def new_service(tmp_path: Path, host: Host) -> Iterator[NewService]:
    """Make services for one test; they are not started yet."""
    made: list[Service] = []

    def make(image: str = "tiny", **settings: str) -> Service:
        folder = tmp_path / f"s{len(made)}"
        folder.mkdir()
        made.append(Service(folder, host, settings, image))
        return made[-1]

    yield make
    for one in made:
        one.dispose()


@pytest.fixture(scope="session")
def reach(identity: Identity) -> Reach:
    """The guest of a VM by what hosting.vm.info says of it, once it lets us in."""

    def reached(vm: Struct, user: str = "root", version: int = 4, seconds: float = BOOT) -> Guest:
        return Guest(address(vm, version), identity, user).ready(seconds)

    return reached
