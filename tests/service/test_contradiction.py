"""Two clients that want contrary things of the same machine, for minutes."""

import random
import threading
import time
import xmlrpc.client
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Reach
from tests.devices.kit import World, targets
from tests.service.client import FINISHED, Client, Struct
from tests.service.contradiction import Account, Asked
from tests.service.guest import Identity
from tests.service.process import Service
from tests.service.waiting import until

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(900)]

SECONDS = 300.0
# of work that waits: what is asked for next meets a machine that has changed
MOST_WAITING = 6
SEED = 2026


def calls(vm_id: int, disk_id: int, iface_id: int) -> dict[tuple[Any, ...], int]:
    """What is asked for, and how often."""
    return {
        ("hosting.vm.start", vm_id): 8,
        ("hosting.vm.stop", vm_id): 8,
        ("hosting.vm.reboot", vm_id): 4,
        ("hosting.vm.disk_attach", vm_id, disk_id): 10,
        ("hosting.vm.disk_detach", vm_id, disk_id): 10,
        ("hosting.vm.iface_attach", vm_id, iface_id): 8,
        ("hosting.vm.iface_detach", vm_id, iface_id): 8,
        ("hosting.vm.info", vm_id): 20,
        ("hosting.vm.delete", vm_id): 1,
    }


def hammer(
    client: Client,
    wanted: dict[tuple[Any, ...], int],
    chance: random.Random,
    over: threading.Event,
    deadline: float,
) -> list[Asked]:
    """Ask for one thing after the other until the machine is about to go, or time is up."""
    asked = []
    waiting: list[Struct] = []
    while time.time() < deadline and not over.is_set():
        _there_is_room(client, waiting)
        method, *arguments = chance.choices(list(wanted), list(wanted.values()))[0]
        begun = time.time()
        answer: Any
        try:
            answer = client.call(method, *arguments)
        except xmlrpc.client.Fault as fault:
            answer = fault.faultCode
        ended = time.time()
        if method == "hosting.vm.info" and isinstance(answer, dict):
            answer = answer["state"]
        one = Asked(method, begun, ended, answer)
        asked.append(one)
        if one.accepted:
            waiting = [*waiting[1 - MOST_WAITING :], answer]
            if method == "hosting.vm.delete":
                over.set()
    return asked


def _there_is_room(client: Client, waiting: list[Struct]) -> None:
    def unfinished() -> int:
        return sum(client.operation(one["id"])["step"] not in FINISHED for one in waiting)

    until(lambda: unfinished() < MOST_WAITING, 120, "work ends")


def test_every_answer_is_right(service: Service, identity: Identity, reach: Reach) -> None:
    clients = service.client(), service.client()
    world = World(service, clients[0], identity, reach)
    begun, total, accepted, machines = time.time(), 0, 0, 0
    chance = random.Random(SEED)
    before = service.inventory()
    (disk_id,) = world.disks(1)
    iface_id = world.ifaces({"ip_version": 4})[0]["id"]
    while time.time() < begun + SECONDS:
        (vm,) = world.vms({"memory": 128})
        machines += 1
        over = threading.Event()
        wanted = calls(vm["id"], disk_id, iface_id)
        with ThreadPoolExecutor(2) as pool:
            hammering = [
                pool.submit(hammer, client, wanted, random.Random(chance.random()), over, begun + SECONDS)
                for client in clients
            ]
            asked = [one for future in hammering for one in future.result()]
        every = {"vm_id": vm["id"], "items_per_page": 500, "sort_by": "id ASC"}
        promised = [one.answer for one in asked if one.accepted]
        clients[0].done(promised, 120)
        made = ("disk_create", "iface_create")
        operations = [one for one in clients[0].call("operation.list", every) if one["type"] not in made]
        account = Account(asked, operations)
        assert list(account.wrong()) == []
        total += len(asked)
        accepted += len(promised)
        if not over.is_set():
            agrees(world, vm["id"], disk_id, iface_id, operations)
            world.discard(vm["id"])
    world.throw_away([disk_id], [iface_id])
    service.settled(before)
    print(f"seed {SEED}: {total} calls on {machines} machines in {SECONDS:.0f} s, {accepted} accepted")
    assert accepted > 100


def agrees(world: World, vm_id: int, disk_id: int, iface_id: int, operations: list[Struct]) -> None:
    """Records, libvirt and the last operations say the same."""
    last = {one["type"]: one["id"] for one in operations}
    started = max(last[one] for one in ("vm_create", "vm_start", "vm_reboot") if one in last)
    runs = started > last.get("vm_stop", 0)
    shown = world.client.vm(vm_id)
    assert shown["state"] == ("running" if runs else "halted")
    assert bool(world.service.domain(vm_id).isActive()) is runs
    for kind, number in (("disk", disk_id), ("iface", iface_id)):
        attached = last.get(f"{kind}_attach", 0) > last.get(f"{kind}_detach", 0)
        assert (number in shown[f"{kind}s_id"]) is attached
        for live in (True, False) if runs else (False,):
            assert (f"ua-{kind}-{number}" in targets(world.service, vm_id, live=live)) is attached
