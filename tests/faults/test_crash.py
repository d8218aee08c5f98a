"""The service is killed in the middle of its work, libvirtd too: each piece of work ends, nothing is left."""

import os
import time
from contextlib import ExitStack

import pytest

from tests.conftest import NewService, Reach
from tests.service.client import Client, Struct
from tests.service.guest import Identity
from tests.service.host import Host, suspended_libvirtd
from tests.service.process import Service
from tests.service.test_life import DEAF, LATE

pytestmark = pytest.mark.guest

LIMIT = 15.0
# what the manual promises, and a busy machine's share
STOPPED = 33.0
SLOW = {"HYPERVISOR_PATIENCE__STOP": str(LIMIT), "HYPERVISOR_PATIENCE__STOP_AGAIN": "3"}


def _whole_or_gone(client: Client, reach: Reach, operations: list[Struct]) -> bool:
    """Whether the VM was made, once all `operations` have ended; it is usable then, or else it is gone."""
    steps = {one["step"] for one in client.finished(operations, 90)}
    vm_id = operations[-1]["vm_id"]
    if steps == {"DONE"}:
        assert reach(client.vm(vm_id)).run("id -un") == "root"
        return True
    assert steps <= {"DONE", "ERROR"}
    assert client.refusal("hosting.vm.info", vm_id).faultCode == 530242
    return False


@pytest.mark.parametrize(("number", "step"), [(0, "RUN"), (1, "DONE"), (2, "RUN")], ids=lambda one: str(one))
def test_killed_during_a_creation(
    new_service: NewService, identity: Identity, reach: Reach, number: int, step: str
) -> None:
    service: Service = new_service()
    client = service.start().client()
    before = service.inventory()
    with ExitStack() as held:
        if step == "RUN" and number == 0:
            # it would be over too soon to be met
            held.enter_context(suspended_libvirtd())
        operations = client.create_from({"ssh_key": identity.public})
        client.reached(operations[number], [step] if step == "DONE" else ["RUN", "DONE"])
        service.kill()
    service.start()
    if _whole_or_gone(client, reach, operations):
        service.discard(client, operations[-1]["vm_id"])
    service.settled(before)


def test_told_to_end_during_a_creation(new_service: NewService) -> None:
    """Nothing is given up: the step that waits for libvirt is done at the next start."""
    service: Service = new_service()
    client = service.start().client()
    before = service.inventory()
    with suspended_libvirtd():
        operations = client.create_from({"memory": 128})
        client.reached(operations[0], ["RUN"])
        begun = time.monotonic()
        assert service.terminate() == 0
        assert time.monotonic() - begun < STOPPED
    service.start()
    client.done(operations)
    service.discard(client, operations[-1]["vm_id"])
    service.settled(before)


def test_killed_right_after_each_answer(new_service: NewService, identity: Identity, reach: Reach) -> None:
    service: Service = new_service()
    client = service.start().client()
    before = service.inventory()
    asked = [client.create_from({"ssh_key": identity.public, "memory": 128}) for _ in range(2)]
    service.kill()
    service.start()
    for operations in asked:
        if _whole_or_gone(client, reach, operations):
            vm_id = operations[-1]["vm_id"]
            service.domain(vm_id).destroy()
            client.in_state(vm_id, "halted")
            deletion = client.call("hosting.vm.delete", vm_id)
            if operations is asked[-1]:
                service.kill()
                service.start()
            client.done(deletion)
    service.settled(before)


def test_a_stop_goes_on_after_restarts(new_service: NewService, identity: Identity, reach: Reach) -> None:
    service: Service = new_service(**SLOW)
    client = service.start().client()
    before = service.inventory()
    vm = client.made({"ssh_key": identity.public, "run": DEAF})
    reach(vm).run("until [ -e /root/deaf ]; do sleep 0.1; done", 60)
    begun = time.monotonic()
    operation = client.call("hosting.vm.stop", vm["id"])
    deletion = client.call("hosting.vm.delete", vm["id"])
    service.console(vm["id"]).says("deaf: button", 1, LIMIT)
    for end in (service.kill, service.terminate):
        end()
        assert service.domain(vm["id"]).isActive()
        service.start()
        assert client.operation(operation["id"])["step"] == "RUN"
        assert client.operation(deletion["id"])["step"] == "WAIT"
    client.done(operation)
    # the time ran on
    assert LIMIT - 0.5 < time.monotonic() - begun < LIMIT + LATE
    client.done(deletion)
    service.settled(before)


def test_what_happens_while_the_service_is_away_is_seen(new_service: NewService) -> None:
    service: Service = new_service()
    client = service.start().client()
    vms = [client.made({"memory": 128}) for _ in range(3)]
    service.kill()
    service.domain(vms[0]["id"]).destroy()
    service.domain(vms[1]["id"]).suspend()
    service.start()
    assert [client.vm(vm["id"])["state"] for vm in vms] == ["halted", "paused", "running"]


def test_only_the_worker_is_killed(new_service: NewService) -> None:
    service: Service = new_service()
    client = service.start().client()
    before = service.inventory()
    operations = client.create_from({"memory": 128})
    os.kill(service.worker(), 9)
    # the master starts another one, which takes the work up
    ended = {one["step"] for one in service.client().finished(operations, 60)}
    assert ended <= {"DONE", "ERROR"}
    if ended == {"DONE"}:
        service.discard(service.client(), operations[-1]["vm_id"])
    service.settled(before)


def test_libvirtd_is_killed_and_comes_back(
    new_service: NewService, host: Host, identity: Identity, reach: Reach
) -> None:
    service: Service = new_service(**SLOW)
    client = service.start().client()
    before = service.inventory()
    deaf = client.create_from({"ssh_key": identity.public, "run": DEAF})
    other = client.create_from({"memory": 128})
    client.done([*deaf, *other])
    deaf_vm, other_vm = client.vm(deaf[-1]["vm_id"]), client.vm(other[-1]["vm_id"])
    reach(deaf_vm).run("until [ -e /root/deaf ]; do sleep 0.1; done", 60)
    console = service.console(deaf_vm["id"])
    begun = time.monotonic()
    stop = client.call("hosting.vm.stop", deaf_vm["id"])
    console.says("deaf: button", 1, LIMIT)
    host.kill_libvirtd()
    # answered when libvirtd has looked the domain over: one that dies before does so without an event
    service.domain(other_vm["id"]).memoryStats()
    service.domain(other_vm["id"]).destroy()
    client.in_state(other_vm["id"], "halted")
    # the stop under way is not disturbed
    client.done(stop)
    assert LIMIT - 0.5 < time.monotonic() - begun < LIMIT + LATE
    assert console.count("deaf: button") >= 2
    client.done([client.call("hosting.vm.delete", one["id"]) for one in (deaf_vm, other_vm)])
    service.settled(before)


def test_a_domain_that_ends_while_libvirtd_is_away(new_service: NewService, host: Host) -> None:
    service: Service = new_service()
    client = service.start().client()
    vm = client.made({"memory": 128})
    with suspended_libvirtd():
        os.kill(service.qemu(vm["id"]), 9)
    host.kill_libvirtd()
    client.in_state(vm["id"], "halted")


def test_libvirtd_is_killed_during_a_creation(
    new_service: NewService, host: Host, identity: Identity, reach: Reach
) -> None:
    service: Service = new_service()
    client = service.start().client()
    before = service.inventory()
    operations = client.create_from({"ssh_key": identity.public})
    client.reached(operations[2], ["RUN", "DONE"])
    host.kill_libvirtd()
    if _whole_or_gone(client, reach, operations):
        service.discard(client, operations[-1]["vm_id"])
    service.settled(before, 60)
