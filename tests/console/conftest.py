"""A machine for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.console.kit import PASSWORD, Machine
from tests.service.client import Client
from tests.service.guest import Identity
from tests.service.process import Service


@pytest.fixture(scope="package")
def machine(service: Service, client: Client, identity: Identity) -> Iterator[Machine]:
    """A running machine whose console is open."""
    vm = client.made({"hostname": "seen", "ssh_key": identity.public, "password": PASSWORD})
    made = Machine(service, client, identity, vm)
    made.log.says("login: ")
    made.switch(on=True)
    yield made
    service.discard(client, vm["id"])


@pytest.fixture
def running(machine: Machine) -> Machine:
    """The machine, running, its console open and nobody logged in."""
    if machine.client.vm(machine.vm["id"])["state"] != "running":
        machine.do("start")
    if not machine.client.vm(machine.vm["id"])["console"]:
        machine.switch(on=True)
    machine.log.says("login: ")
    return machine
