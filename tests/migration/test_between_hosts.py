"""Machines and disks that move between two hosts. More in ``faults_between.py``, which is run on its own."""

import asyncio
import itertools
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from hypervisor.domain import power
from tests.console.kit import Machine, Terminal
from tests.migration.moving import FINALIZE, SYNC, depart, finalize, synced, volume
from tests.migration.two_hosts import HERE, THERE, Mover, TwoHosts
from tests.network.asker import Asker, answers
from tests.service.waiting import until
from tests.storage.conftest import qemu_io

pytestmark = [pytest.mark.guest, pytest.mark.lab]


async def console_answers(mover: Mover) -> None:
    """Let its owner press a key at the console, and see the guest answer."""
    hosts = mover.hosts
    machine = Machine(hosts.service, hosts.client, hosts.world.identity, hosts.client.vm(mover.id))
    async with machine.connect() as connection:
        process = await connection.create_process(term_type="vt100", encoding=None)
        terminal = Terminal(process, hosts.service.state / "console" / f"{mover.uuid}.log")
        terminal.type(b"\r")
        await terminal.sees(b"login: ", 20)
        for one in terminal.reading:
            one.cancel()


def test_there_and_back(hosts: TwoHosts, tmp_path: Path) -> None:
    client, world = hosts.client, hosts.world
    mover = Mover(hosts)
    mover.runs_on(HERE)
    before = mover.addresses
    asker = Asker(ip_address(before[0]))
    asker.answered(3)

    # the service dies during the copy, and makes it anew
    operation = depart(world, mover.id)
    mover.copying(operation)
    hosts.service.kill()
    hosts.service.start()
    steps = [step for step, _ in itertools.groupby(one["inner_step"] for one in synced(world, operation))]
    assert steps == [SYNC, FINALIZE]
    assert client.vm(mover.id)["state"] == "being_migrated"
    asker.answered(3)
    begun = time.monotonic()
    finalize(world, mover.id)
    mine = {"iface_id": client.vm(mover.id)["ifaces_id"], "datacenter_id": hosts.ids[THERE]}
    new = until(lambda: [ip["ip"] for ip in client.call("hosting.ip.list", mine)], 10, "new addresses")
    follower = hosts.on(THERE, lambda: Asker(ip_address(new[0])))
    client.done(operation)
    print(f"from the call that finalizes to DONE: {time.monotonic() - begun:.2f} s")
    follower.answered(3)
    asker.end()
    follower.end()
    times = sorted([*asker.answers, *follower.answers])
    gap = max(after - earlier for earlier, after in itertools.pairwise(times))
    print(f"longest time without an answer: {gap:.2f} s")
    assert mover.addresses == new
    assert not answers(ip_address(before[0]), 0.5)
    mover.runs_on(THERE)
    asyncio.run(console_answers(mover))
    assert gap < 5

    # it stops, stays there because the way back is cancelled, and moves back
    world.do("stop", mover.id)
    there = mover.counted(THERE, tmp_path)
    print(f"counted to {there}")
    assert all(now >= seen for now, seen in zip(there, mover.seen, strict=True))
    operation = depart(world, mover.id)
    synced(world, operation)
    client.call("operation.cancel", operation["id"])
    assert [one["step"] for one in client.finished(operation)] == ["CANCEL"]
    hosts.only_on(THERE, mover.id, mover.things)
    operation = depart(world, mover.id)
    synced(world, operation)
    finalize(world, mover.id)
    client.done(operation)
    assert mover.counted(HERE, tmp_path) == there
    world.do("start", mover.id)
    assert power.state(hosts.connections[HERE], mover.uuid).powered
    mover.discard()


def test_a_detached_disk_is_carried_with_its_snapshot(hosts: TwoHosts) -> None:
    world = hosts.world
    (disk,) = world.disks(1)
    qemu_io(volume(world, disk), "write -P 5 0 20M")
    snapshot = world.copy(disk, type="snapshot", name="then")
    qemu_io(volume(world, disk), "write -P 6 10M 10M")
    hosts.client.done(hosts.client.call("hosting.disk.migrate", disk, hosts.ids[THERE]))
    names = tuple(f"disk-{one}-" for one in (disk, snapshot))
    held = [sum(name.startswith(names) for name in hosts.holds(side)) for side in (HERE, THERE)]
    assert held == [0, 2]
    qemu_io(volume(world, disk), "read -P 5 0 10M", "read -P 6 10M 10M", "read -P 0 20M 1M")
    qemu_io(volume(world, snapshot), "read -P 5 0 20M", "read -P 0 20M 1M")
    world.throw_away(disks={disk, snapshot})
