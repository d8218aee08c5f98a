"""What goes wrong while a running machine moves to another host: all of it is on one host, nothing is lost.

This takes minutes and is run on its own:
``hypervisor lab -- python -m pytest tests/migration/faults_between.py -s``.
"""

import signal
from collections.abc import Iterator

import pytest

from hypervisor.domain import power
from tests.migration.moving import depart, finalize, synced
from tests.migration.two_hosts import HERE, THERE, Mover, TwoHosts
from tests.service.client import Struct
from tests.service.waiting import until

pytestmark = [pytest.mark.guest, pytest.mark.lab]


@pytest.fixture
def mover(hosts: TwoHosts) -> Iterator[Mover]:
    """A machine that runs on the first host."""
    made = Mover(hosts)
    made.runs_on(HERE)
    yield made
    made.discard()


def waiting(mover: Mover) -> Struct:
    """Its migration, which waits to be finished."""
    operation = depart(mover.hosts.world, mover.id)
    synced(mover.hosts.world, operation)
    return operation


def ended(mover: Mover, operation: Struct) -> Struct:
    """The operation at its end."""
    (found,) = mover.hosts.client.finished(operation, 120)
    print(found["step"], found["last_error"])
    return found


def test_cancelled_while_it_waits(mover: Mover) -> None:
    operation = waiting(mover)
    mover.hosts.client.call("operation.cancel", operation["id"])
    assert ended(mover, operation)["step"] == "CANCEL"
    mover.runs_on(HERE)


def test_the_service_dies_at_the_end(mover: Mover) -> None:
    operation = waiting(mover)
    finalize(mover.hosts.world, mover.id)
    there = mover.hosts.connections[THERE]
    until(lambda: power.state(there, mover.uuid) is power.State.RUNNING, 30, "it arrives")
    mover.hosts.service.kill()
    mover.hosts.service.start()
    assert ended(mover, operation)["step"] == "DONE"
    mover.runs_on(THERE)


def test_the_service_is_stopped_while_it_waits(mover: Mover) -> None:
    operation = waiting(mover)
    mover.hosts.service.terminate()
    mover.hosts.service.start()
    finalize(mover.hosts.world, mover.id)
    assert ended(mover, operation)["step"] == "DONE"
    mover.runs_on(THERE)


def test_the_other_host_s_libvirtd_dies(mover: Mover) -> None:
    operation = depart(mover.hosts.world, mover.id)
    mover.copying(operation)
    mover.hosts.lab.signal(signal.SIGKILL)
    assert "target's libvirtd went away" in ended(mover, operation)["last_error"]
    mover.runs_on(HERE)


def test_the_machine_is_switched_off_while_it_waits(mover: Mover) -> None:
    operation = waiting(mover)
    mover.hosts.service.domain(mover.id).destroy()
    synced(mover.hosts.world, operation)
    finalize(mover.hosts.world, mover.id)
    assert ended(mover, operation)["step"] == "DONE"
    assert mover.hosts.client.vm(mover.id)["state"] == "halted"
    mover.hosts.only_on(THERE, mover.id, mover.things)
