"""A running machine moves, with three disks and a snapshot of one, while its guest writes and answers."""

import itertools
import os
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.devices.kit import World
from tests.migration.moving import (
    FINALIZE,
    SYNC,
    check_filesystem,
    elsewhere,
    place,
    synced,
    traveller,
    volume,
)
from tests.network.asker import Asker, answers
from tests.service.client import Struct
from tests.service.host import libvirtd, preferred
from tests.service.waiting import until

pytestmark = pytest.mark.guest

FILL = 30  # MiB


def addresses(vm: Struct) -> list[str]:
    """The addresses of the VM's interface."""
    return [ip["ip"] for ip in vm["ifaces"][0]["ips"]]


def test_a_running_machine_moves(world: World, tmp_path: Path) -> None:
    client = world.client
    mover = traveller(world, "mover", world.disks(2), FILL)
    kept = mover.data[0]
    guest = mover.guest
    world.service.agent_answers(mover.vm_id)
    guest.run(f"echo before > /disk-{kept}/mark; sync")
    snapshot = world.copy(kept, type="snapshot", name="then")
    guest.run(f"echo after > /disk-{kept}/mark; sync")
    before, boot = client.vm(mover.vm_id), guest.boot_id()
    here = mover.whole()
    there = elsewhere(world, here)
    askers = [Asker(ip_address(one)) for one in addresses(before)]
    for one in askers:
        one.answered(5)

    operation = mover.depart()
    assert (operation["type"], operation["params"]["to_dc_id"]) == ("hosting_migration_vm", there)
    until(lambda: client.vm(mover.vm_id)["is_migrating"], 10, "it shows that it moves")
    for method in ("stop", "reboot", "delete", "migrate"):
        refusal = client.refusal(f"hosting.vm.{method}", mover.vm_id)
        assert "is being migrated" in refusal.faultString or "not finished" in refusal.faultString, refusal
        print(method, refusal)
    seen = synced(world, operation)
    steps = [step for step, _ in itertools.groupby(one["inner_step"] for one in seen)]
    percents = [one["progress"]["percent"] for one in seen if "progress" in one]
    print(f"steps {steps}, percents {percents}")
    assert steps == [SYNC, FINALIZE]
    assert percents[-1] == 100
    assert len({one for one in percents if one < 100}) > 1
    assert client.vm(mover.vm_id)["state"] == "being_migrated"
    assert [disk["state"] for disk in client.vm(mover.vm_id)["disks"]] == ["being_migrated"] * 3
    # the guest goes on here until it is told
    for one in askers:
        one.answered(5)

    with preferred(os.getpid(), world.service.qemu(mover.vm_id), world.service.worker(), libvirtd()):
        begun = time.monotonic()
        assert mover.finalize()["id"] == operation["id"]
        # its new addresses are known, and asked, before it has them
        until(lambda: len(client.call("hosting.ip.list", {"iface_id": before["ifaces_id"]})) > 2, 10, "given")
        new = [
            ip["ip"]
            for ip in client.call(
                "hosting.ip.list", {"datacenter_id": there, "iface_id": before["ifaces_id"]}
            )
        ]
        followers = [Asker(ip_address(one)) for one in new]
        client.done(operation)
        print(f"from the call that finalizes to DONE: {time.monotonic() - begun:.2f} s")
        for one in followers:
            one.answered(5)
    for one in (*askers, *followers):
        one.end()
    gaps = []
    for old, follower in zip(askers, followers, strict=True):
        times = sorted([*old.answers, *follower.answers])
        gaps.append(max(after - earlier for earlier, after in itertools.pairwise(times)))
    print(f"longest time without an answer: {[round(one, 2) for one in gaps]} s")

    after = client.vm(mover.vm_id)
    assert mover.whole() == there
    assert after["datacenter_id"] == there
    assert after["ifaces_id"] == before["ifaces_id"]
    assert after["disks_id"] == before["disks_id"]
    assert addresses(after) == new
    assert not any(answers(ip_address(one), 0.5) for one in addresses(before))
    assert client.call("hosting.ip.list", {"datacenter_id": here, "iface_id": before["ifaces_id"]}) == []
    assert mover.guest.boot_id() == boot
    mover.counted()
    assert max(gaps) < 1

    # stopped, looked at, put back, and started there
    world.do("stop", mover.vm_id)
    for one in (*after["disks_id"], snapshot):
        assert volume(world, one).parent.name == place(world, there).pool
        said = check_filesystem(volume(world, one), tmp_path)
        print(said.splitlines()[-1])
    client.done(client.call("hosting.vm.disk_rollback", snapshot), 90)
    world.do("start", mover.vm_id)
    mover.data = list(client.vm(mover.vm_id)["disks_id"][1:])
    mover.seen.clear()
    mover.counting()
    marks = mover.guest.run("cat /disk-*/mark").split()
    assert marks == ["before"]
    assert mover.whole() == there
    world.discard(mover.vm_id)
    world.throw_away(disks={snapshot})
