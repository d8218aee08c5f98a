"""Snapshots of disks, and disks put back to them."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.devices.kit import World, block_device, root_disk
from tests.service.client import Struct
from tests.service.guest import Guest

pytestmark = pytest.mark.guest

RUNNING = ["vm_stop", "disk_detach", "disk_create", "disk_attach", "vm_start", "disk_delete"]
HALTED = ["disk_detach", "disk_create", "disk_attach", "disk_delete"]
FREE = ["disk_create", "disk_delete"]


@dataclass
class Past:
    """A running VM with a file from before its snapshot, and one from after it."""

    vm_id: int
    guest: Guest
    snapshot: int


@pytest.fixture(scope="module")
def made(world: World) -> Iterator[Past]:
    (vm,) = world.vms({"hostname": "past"})
    guest = world.reach(vm)
    # which has the file systems frozen, with all that was written
    world.service.agent_answers(vm["id"])
    guest.run("echo before > /root/before; sync; echo unsynced > /root/unsynced")
    system = world.client.vm(vm["id"])["disks_id"][0]
    snapshot = world.copy(system, type="snapshot", name="then")
    yield Past(vm["id"], guest, snapshot)
    world.discard(vm["id"])
    world.throw_away(disks={snapshot})


@pytest.fixture
def past(world: World, made: Past) -> Past:
    """The VM, which runs."""
    if world.client.vm(made.vm_id)["state"] != "running":
        world.do("start", made.vm_id)
    made.guest.ready()
    return made


def volumes(world: World) -> set[str]:
    """The names of all volumes of disks."""
    return {file.name for file in world.service.pools.glob("*/disk-*")}


def volume_of(world: World, disk: int) -> set[str]:
    """The volumes of the disk."""
    return {name for name in volumes(world) if name.startswith(f"disk-{disk}-")}


def rolled_back(world: World, snapshot: int) -> list[Struct]:
    """The operations of a rollback, all done, the last one last."""
    operations: list[Struct] = world.client.call("hosting.vm.disk_rollback", snapshot)
    return world.client.done(operations, 90)


def test_a_snapshot_is_a_disk_of_its_own(world: World, past: Past) -> None:
    system = world.client.vm(past.vm_id)["disks_id"][0]
    snapshot, disk = world.disk(past.snapshot), world.disk(system)
    assert (snapshot["type"], snapshot["source"], snapshot["vms_id"]) == ("snapshot", system, [])
    assert (snapshot["can_snapshot"], disk["can_snapshot"]) == (False, True)
    assert disk["snapshots_id"] == [past.snapshot]
    assert disk["total_size"] == disk["size"] + snapshot["size"]
    assert len(volume_of(world, past.snapshot)) == 1


def test_a_running_vm_is_put_back_to_its_snapshot(world: World, past: Past) -> None:
    old = world.client.vm(past.vm_id)["disks_id"][0]
    past.guest.run("echo after > /root/after; echo changed > /root/before; sync")
    before, extra = past.guest.boot_id(), world.disks(1)[0]
    world.do("disk_attach", past.vm_id, extra, {"position": 4})

    operations = world.client.call("hosting.vm.disk_rollback", past.snapshot)
    assert [one["type"] for one in operations] == RUNNING
    assert [one["step"] for one in operations] == ["WAIT"] * 6
    new = operations[2]["disk_id"]
    assert [one["vm_id"] for one in operations] == [
        past.vm_id,
        past.vm_id,
        None,
        past.vm_id,
        past.vm_id,
        None,
    ]
    assert [one["disk_id"] for one in operations] == [None, old, new, new, None, old]
    again = world.client.refusal("hosting.vm.disk_rollback", past.snapshot)
    assert again.faultCode == 530467
    done = world.client.done(operations, 90)
    starts = [one["date_start"] for one in done]
    assert starts == sorted(starts)

    vm = world.client.vm(past.vm_id)
    assert (vm["state"], vm["disks_id"]) == ("running", [new, extra])
    past.guest.rebooted(before)
    assert past.guest.run("cat /root/before; ls /root") == "before\nbefore\nunsynced"
    assert past.guest.run("cat /root/unsynced") == "unsynced"
    assert root_disk(past.guest) == f"disk-{new}"
    block_device(past.guest, extra)
    assert world.client.refusal("hosting.disk.info", old).faultCode == 530442
    assert volume_of(world, old) == set()
    # the snapshot is one of the new disk now
    assert world.disk(past.snapshot)["source"] == new
    assert world.disk(new)["snapshots_id"] == [past.snapshot]
    world.do("disk_detach", past.vm_id, extra)
    world.throw_away(disks={extra})


def test_again_from_the_same_snapshot_while_the_vm_is_halted(world: World, past: Past) -> None:
    past.guest.run("echo later > /root/later; sync")
    world.power_off(past.vm_id)
    old = world.client.vm(past.vm_id)["disks_id"][0]
    done = rolled_back(world, past.snapshot)
    assert [one["type"] for one in done] == HALTED
    vm = world.client.vm(past.vm_id)
    assert (vm["state"], vm["disks_id"]) == ("halted", [done[1]["disk_id"]])
    assert volume_of(world, old) == set()
    world.do("start", past.vm_id)
    past.guest.ready()
    assert past.guest.run("ls /root") == "before\nunsynced"


def test_a_data_disk_of_a_running_vm_and_a_free_one(world: World, past: Past) -> None:
    (disk,) = world.disks(1)
    world.do("disk_attach", past.vm_id, disk, {"position": 7, "access": "read/write"})
    name = block_device(past.guest, disk)
    past.guest.run(f"echo first | dd of=/dev/{name} conv=fsync 2>/dev/null")
    snapshot = world.copy(disk, type="snapshot")
    past.guest.run(f"echo second | dd of=/dev/{name} conv=fsync 2>/dev/null")
    refused = world.client.refusal("hosting.disk.rollback_from", snapshot)
    assert refused.faultCode == 530439
    assert f"disk#{disk} associated with snapshot#{snapshot} is attached" in refused.faultString

    system = world.client.vm(past.vm_id)["disks_id"][0]
    done = rolled_back(world, snapshot)
    assert [one["type"] for one in done] == RUNNING
    new = done[2]["disk_id"]
    assert world.client.vm(past.vm_id)["disks_id"] == [system, new]
    past.guest.ready()
    assert past.guest.run(f"head -n 1 /dev/{block_device(past.guest, new)}") == "first"
    past.guest.run(f"echo third | dd of=/dev/{block_device(past.guest, new)} conv=fsync 2>/dev/null")

    # free: by either method
    world.do("disk_detach", past.vm_id, new)
    done = rolled_back(world, snapshot)
    assert [one["type"] for one in done] == FREE
    free = done[0]["disk_id"]
    assert world.disk(free)["vms_id"] == []
    volume = volume_of(world, free)
    (operation,) = world.client.done(world.client.call("hosting.disk.rollback_from", snapshot))
    assert (operation["type"], operation["disk_id"]) == ("disk_rollback_from", free)
    assert len(volume_of(world, free)) == 1
    assert volume_of(world, free) != volume
    world.do("disk_attach", past.vm_id, free)
    assert past.guest.run(f"head -n 1 /dev/{block_device(past.guest, free)}") == "first"
    world.do("disk_detach", past.vm_id, free)
    world.throw_away(disks={free, snapshot})


@pytest.mark.parametrize("method", ["hosting.vm.disk_rollback", "hosting.disk.rollback_from"])
def test_what_is_no_snapshot_is_refused(world: World, past: Past, method: str) -> None:
    system = world.client.vm(past.vm_id)["disks_id"][0]
    assert world.client.refusal(method, system).faultCode == 532491
    assert world.client.refusal(method, 999999).faultCode == 530442
    spec = {"type": "snapshot"}
    assert world.client.refusal("hosting.disk.create_from", spec, past.snapshot).faultCode == 532491
    assert world.client.refusal("hosting.vm.disk_attach", past.vm_id, past.snapshot).faultCode == 532491


def test_what_fails_in_the_middle_leaves_the_old_disk(world: World, past: Past) -> None:
    old = world.client.vm(past.vm_id)["disks_id"][0]
    lost = world.copy(old, type="snapshot", name="lost")
    (file,) = (one for one in world.service.pools.glob(f"*/disk-{lost}-*"))
    file.unlink()
    before, there, disks = past.guest.boot_id(), volumes(world), world.client.call("hosting.disk.count")
    ended = world.client.finished(world.client.call("hosting.vm.disk_rollback", lost), 90)
    assert [one["step"] for one in ended] == ["DONE", "DONE", "ERROR", "ERROR", "ERROR", "ERROR"]
    assert file.name in ended[2]["last_error"]
    vm = world.client.vm(past.vm_id)
    assert (vm["state"], vm["disks_id"]) == ("running", [old])
    past.guest.rebooted(before)
    assert root_disk(past.guest) == f"disk-{old}"
    assert len(volume_of(world, old)) == 1
    assert world.client.call("hosting.disk.count") == disks
    assert volumes(world) == there
    assert world.disk(lost)["source"] == old

    # the same while it is halted, and for a free disk
    world.power_off(past.vm_id)
    ended = world.client.finished(world.client.call("hosting.vm.disk_rollback", lost))
    assert [one["step"] for one in ended] == ["DONE", "ERROR", "ERROR", "ERROR"]
    assert world.client.vm(past.vm_id)["disks_id"] == [old]
    assert world.client.vm(past.vm_id)["state"] == "halted"
    world.do("disk_detach", past.vm_id, old)
    for method, count in (("hosting.vm.disk_rollback", 2), ("hosting.disk.rollback_from", 1)):
        ended = world.client.finished(world.client.call(method, lost))
        assert [one["step"] for one in ended] == ["ERROR"] * count
        assert world.disk(old)["vms_id"] == []
        assert volumes(world) == there
    world.do("disk_attach", past.vm_id, old, {"position": 0})
    world.throw_away(disks={lost})


def test_a_vm_that_cannot_start_has_its_old_disk(world: World, past: Past) -> None:
    (disk,) = world.disks(1)
    world.do("disk_attach", past.vm_id, disk)
    snapshot = world.copy(disk, type="snapshot")
    system = world.client.vm(past.vm_id)["disks_id"][0]
    (file,) = (one for one in world.service.pools.glob(f"*/disk-{system}-*"))
    away = file.with_name("away")
    # the machine runs on what it has open; it cannot be started again without the file
    file.rename(away)
    there = volumes(world)
    try:
        ended = world.client.finished(world.client.call("hosting.vm.disk_rollback", snapshot), 90)
        assert [one["step"] for one in ended] == ["DONE"] * 4 + ["ERROR"] * 2
        assert world.client.vm(past.vm_id)["disks_id"] == [system, disk]
        assert world.client.vm(past.vm_id)["state"] == "halted"
        assert volumes(world) == there
        assert world.disk(snapshot)["source"] == disk
    finally:
        away.rename(file)
    world.do("start", past.vm_id)
    past.guest.ready()
    block_device(past.guest, disk)
    world.do("disk_detach", past.vm_id, disk)
    world.throw_away(disks={disk, snapshot})


def test_file_systems_are_frozen_for_the_snapshot(world: World, past: Past) -> None:
    world.service.agent_answers(past.vm_id)
    system = world.client.vm(past.vm_id)["disks_id"][0]
    # never flushed by the guest: only a freeze has it on the disk
    past.guest.run("seq 100000 > /root/fresh")
    snapshot = world.copy(system, type="snapshot")
    copy = world.copy(snapshot)
    world.do("disk_attach", past.vm_id, copy)
    name = block_device(past.guest, copy)
    # a file system that was frozen needs no journal to be played back: it is whole when mounted read-only
    read = f"mount -o ro,noload /dev/{name}2 /mnt && tail -n 1 /mnt/root/fresh; umount /mnt"
    assert past.guest.run(read) == "100000"
    world.do("disk_detach", past.vm_id, copy)
    world.throw_away(disks={copy, snapshot})
