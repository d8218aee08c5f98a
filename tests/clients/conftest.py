"""A service for the published clients, and a machine that gandi.cli made."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.gandi import Gandi
from tests.conftest import Reach
from tests.devices.kit import World
from tests.service.client import Struct
from tests.service.guest import Identity
from tests.service.host import Host
from tests.service.process import Service


@pytest.fixture(scope="package", params=["made", pytest.param("rebuilt", marks=pytest.mark.long)])
def world(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    host: Host,
    identity: Identity,
    reach: Reach,
) -> Iterator[World]:
    """A running service that takes samples often, with its first account's client and the machine `web`.

    Its records are those that it made, or what ``hypervisor rebuild`` found after they were deleted.
    """
    service = Service(tmp_path_factory.mktemp("clients"), host, {"HYPERVISOR_STATISTICS__EVERY": "2"})
    try:
        world = World(service.start(), service.client(), identity, reach)
        _make_web(world, tmp_path_factory.mktemp("web"))
        yield _rebuilt(world) if request.param == "rebuilt" else world
    finally:
        service.dispose()


def _rebuilt(world: World) -> World:
    service = world.service
    service.inventory()
    assert service.terminate() == 0
    for file in service.state.glob("store.db*"):
        file.unlink()
    done = service.cli("rebuild")
    assert done.returncode == 0, done.stderr
    # with a new key, too
    return World(service.start(), service.client(), world.identity, world.reach)


@pytest.fixture
def gandi(world: World, tmp_path: Path) -> Gandi:
    """gandi.cli with the first account's key and a new home."""
    return Gandi(world.client, tmp_path / "home", world.identity)


@pytest.fixture(scope="package")
def web(world: World) -> Struct:
    """The machine `web`, made by gandi.cli: what hosting.vm.info says of it."""
    (made,) = world.client.call("hosting.vm.list", {"hostname": "web"})
    return world.client.vm(made["id"])


def _make_web(world: World, folder: Path) -> None:
    gandi = Gandi(world.client, folder / "home", world.identity)
    (gandi.home / "first.sh").write_text('#!/bin/sh\necho "$@" > /root/arguments\n')
    said = gandi.work(
        "vm", "create", "--hostname", "web", "--ip-version", "4", "--sshkey", gandi.public_key,
        "--login", "alice", "--gen-password", "--memory", "320", "--datacenter", "fr-sd5", "--image", "Tiny",
        "--size", "2G", "--bandwidth", "20480", "--run", "id -un > /root/who",
        "--script", "first.sh", "--script-args", "one two",
    )  # fmt: skip
    words = "* Users root and alice setup with password "
    (password,) = [line.removeprefix(words) for line in said.text.splitlines() if line.startswith(words)]
    assert "Your Virtual Machine web has been created." in said.text
    (made,) = world.client.call("hosting.vm.list", {"hostname": "web"})
    guest = world.reach(world.client.vm(made["id"]))
    assert guest.appears("/root/who") == "root\n"
    assert guest.appears("/root/arguments") == "one two\n"
    assert guest.with_password(password, "alice") == "alice"
