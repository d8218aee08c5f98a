"""The state folder's disk is full for a while: what was accepted goes on when there is space again."""

import os
import random
import xmlrpc.client
from contextlib import ExitStack

import pytest

from tests.faults.blows import full
from tests.faults.town import Town
from tests.faults.workload import SIZE, View, Workload
from tests.service.host import suspended_libvirtd
from tests.service.waiting import until

pytestmark = pytest.mark.guest


def test_a_step_waits_until_its_result_can_be_kept(town: Town) -> None:
    client = town.service.client()
    here = sorted(View.take(client).images)[0]
    with ExitStack() as stack:
        with suspended_libvirtd():
            asked = [
                client.call("hosting.disk.create", {"datacenter_id": here, "size": SIZE}) for _ in range(3)
            ]
            client.reached(asked[0], ["RUN"])
            stack.enter_context(full(town.service.state, 0))
        (disk,) = (one for one in town.records().disk if one["id"] == asked[0]["disk_id"])
        until(town.records().volume(disk, town.service.pools).exists, 20, "the volume is made")
    client.done(asked)
    assert {one["disk_id"] for one in asked} <= town.records().objects["disk"]


def test_a_call_that_cannot_be_recorded_says_so_and_leaves_nothing(town: Town) -> None:
    client = town.service.client()
    here = sorted(View.take(client).images)[0]
    accepted = []

    def fill() -> None:
        for _ in range(100):
            accepted.append(client.call("hosting.disk.create", {"datacenter_id": here, "size": SIZE}))

    with full(town.service.state, 0), pytest.raises(xmlrpc.client.Fault, match="state folder full") as caught:
        fill()
    assert caught.value.faultCode == 150000
    client.done(accepted)
    assert not town.look(Workload(client, random.Random(0)))


def test_a_machine_that_ends_meanwhile_is_seen(town: Town) -> None:
    client = town.service.client()
    running = next(one["id"] for one in client.call("hosting.vm.list") if one["state"] == "running")
    with full(town.service.state, 0):
        os.kill(town.service.qemu(running), 9)
        until(lambda: not town.service.domain(running).isActive(), 20, "libvirt sees its end")
    client.in_state(running, "halted")
    workload = Workload(client, random.Random(0))
    assert not town.look(workload)
