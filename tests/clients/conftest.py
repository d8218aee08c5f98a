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


@pytest.fixture(scope="package")
def world(
    tmp_path_factory: pytest.TempPathFactory, host: Host, identity: Identity, reach: Reach
) -> Iterator[World]:
    """A running service that takes samples often, with its first account's client."""
    service = Service(tmp_path_factory.mktemp("clients"), host, {"HYPERVISOR_STATISTICS__EVERY": "2"})
    try:
        service.start()
        yield World(service, service.client(), identity, reach)
    finally:
        service.dispose()


@pytest.fixture
def gandi(world: World, tmp_path: Path) -> Gandi:
    """gandi.cli with the first account's key and a new home."""
    return Gandi(world.client, tmp_path / "home", world.identity)


@pytest.fixture(scope="package")
def web(world: World, tmp_path_factory: pytest.TempPathFactory) -> Struct:
    """The machine `web`, made by gandi.cli: what hosting.vm.info says of it."""
    gandi = Gandi(world.client, tmp_path_factory.mktemp("web") / "home", world.identity)
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
    return world.client.vm(made["id"])
