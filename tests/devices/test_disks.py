"""Disks attached and detached, running or not, as the guest sees them."""

import threading
from collections.abc import Iterator

import pytest

from tests.devices.kit import World, block_device, root_disk, serials, targets
from tests.service.client import Client, Struct
from tests.service.guest import Guest
from tests.service.waiting import until

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def pair(world: World) -> Iterator[tuple[Struct, Struct]]:
    """A VM that runs, and one whose guest has never run for long."""
    first, second = world.vms({"hostname": "runs"}, {"hostname": "rests"})
    world.power_off(second["id"])
    yield first, second
    world.discard(first["id"], second["id"])


@pytest.fixture
def running(world: World, pair: tuple[Struct, Struct]) -> tuple[int, Guest]:
    """A running VM and its guest."""
    vm = pair[0]
    if world.client.vm(vm["id"])["state"] != "running":
        world.do("start", vm["id"])
    return vm["id"], world.reach(vm)


@pytest.fixture
def halted(world: World, pair: tuple[Struct, Struct]) -> int:
    """A halted VM."""
    world.power_off(pair[1]["id"])
    return int(pair[1]["id"])


def test_a_disk_comes_goes_and_keeps_its_data(
    world: World, running: tuple[int, Guest], halted: int, pair: tuple[Struct, Struct]
) -> None:
    vm_id, guest = running
    (disk,) = world.disks(1)
    before = set(guest.run("awk '{print $4}' /proc/partitions").split())
    operation = world.client.call("hosting.vm.disk_attach", vm_id, disk)
    assert [operation[key] for key in ("type", "vm_id", "disk_id", "step")] == [
        "disk_attach", vm_id, disk, "WAIT",
    ]  # fmt: skip
    world.client.done(operation)
    name = block_device(guest, disk)
    assert set(guest.run("awk '{print $4}' /proc/partitions").split()) - before == {name}
    assert guest.run(f"cat /sys/block/{name}/size /sys/block/{name}/ro") == f"{1024 * 2048}\n0"
    assert world.disk(disk)["vms_id"] == [vm_id]
    assert world.client.vm(vm_id)["disks_id"][1:] == [disk]
    assert f"ua-disk-{disk}" in targets(world.service, vm_id, live=False)
    guest.run(
        f"mkfs.ext4 -q /dev/{name} && mount /dev/{name} /mnt && echo kept > /mnt/data && umount /mnt", 60
    )

    operation = world.client.call("hosting.vm.disk_detach", vm_id, disk)
    assert operation["type"] == "disk_detach"
    world.client.done(operation)
    assert f"disk-{disk}" not in serials(guest)
    assert set(guest.run("awk '{print $4}' /proc/partitions").split()) == before
    assert (world.disk(disk)["vms_id"], world.client.vm(vm_id)["disks_id"][1:]) == ([], [])
    for live in (True, False):
        assert f"ua-disk-{disk}" not in targets(world.service, vm_id, live=live)

    # attached elsewhere, while that VM is off
    world.do("disk_attach", halted, disk, {"position": 3})
    assert targets(world.service, halted, live=False)[f"ua-disk-{disk}"] == "vdd"
    world.do("start", halted)
    other = world.reach(pair[1])
    name = block_device(other, disk)
    assert other.run(f"mount /dev/{name} /mnt && cat /mnt/data; umount /mnt") == "kept"
    # and back, for good
    world.do("disk_detach", halted, disk)
    assert f"disk-{disk}" not in serials(other)
    world.power_off(halted)
    world.throw_away(disks={disk})


def test_a_disk_to_read_refuses_writes(world: World, running: tuple[int, Guest]) -> None:
    vm_id, guest = running
    (disk,) = world.disks(1)
    world.do("disk_attach", vm_id, disk, {"access": "read/write"})
    name = block_device(guest, disk)
    guest.run(f"echo first | dd of=/dev/{name} conv=fsync 2>/dev/null")
    world.do("disk_detach", vm_id, disk)

    world.do("disk_attach", vm_id, disk, {"access": "read"})
    name = block_device(guest, disk)
    assert guest.run(f"cat /sys/block/{name}/ro; head -n 1 /dev/{name}") == "1\nfirst"
    assert guest.attempt(f"echo second | dd of=/dev/{name} conv=fsync").returncode != 0
    # nor when the guest insists
    assert guest.attempt(
        f"blockdev --setrw /dev/{name}; echo third | dd of=/dev/{name} conv=fsync"
    ).returncode
    # nor after a boot
    world.power_off(vm_id)
    world.do("start", vm_id)
    guest.ready()
    name = block_device(guest, disk)
    assert guest.attempt(f"echo fourth | dd of=/dev/{name} conv=fsync").returncode != 0
    assert guest.run(f"head -n 1 /dev/{name}") == "first"
    world.do("disk_detach", vm_id, disk)
    world.throw_away(disks={disk})


def test_positions_are_kept_and_the_next_free_one_is_taken(world: World, halted: int) -> None:
    system = world.client.vm(halted)["disks_id"][0]
    a, b, c, d = world.disks(4)
    for disk, options in ((a, {"position": 5}), (b, {}), (c, {"position": 2}), (d, None)):
        world.do("disk_attach", halted, disk, *([] if options is None else [options]))
    assert world.client.vm(halted)["disks_id"] == [system, b, c, d, a]
    expected = {system: "vda", b: "vdb", c: "vdc", d: "vdd", a: "vdf"}
    assert (
        expected.items()
        <= {
            int(alias.removeprefix("ua-disk-")): target
            for alias, target in targets(world.service, halted, live=False).items()
            if alias.startswith("ua-disk-")
        }.items()
    )
    assert [world.disk(one)["is_boot_disk"] for one in (system, a, b)] == [True, False, False]
    # a place that became free is the next one
    world.do("disk_detach", halted, b)
    world.do("disk_detach", halted, a)
    world.do("disk_attach", halted, a)
    assert world.client.vm(halted)["disks_id"] == [system, a, c, d]
    assert world.client.refusal("hosting.vm.disk_attach", halted, b, {"position": 2}).faultCode == 530445
    for disk in (a, c, d):
        world.do("disk_detach", halted, disk)
    world.throw_away(disks=[a, b, c, d])


def test_position_0_swaps_with_the_system_disk(world: World, running: tuple[int, Guest]) -> None:
    vm_id, guest = running
    old = world.client.vm(vm_id)["disks_id"][0]
    new = world.copy(world.image, name="another system")
    assert root_disk(guest) == f"disk-{old}"
    # running: the guest sees it at once, and boots from it at its next start
    world.do("disk_attach", vm_id, new, {"position": 0})
    assert world.client.vm(vm_id)["disks_id"] == [new, old]
    assert [world.disk(one)["is_boot_disk"] for one in (new, old)] == [True, False]
    block_device(guest, new)
    assert root_disk(guest) == f"disk-{old}"
    assert world.client.refusal("hosting.vm.disk_detach", vm_id, new).faultCode == 530469
    (kept,) = world.client.finished([world.client.call("hosting.vm.disk_detach", vm_id, old)])
    assert kept["step"] == "ERROR"
    assert "runs from" in kept["last_error"]
    assert "stop it, then detach" in kept["last_error"]
    assert world.disk(old)["vms_id"] == [vm_id]
    world.do("stop", vm_id)
    world.do("start", vm_id)
    guest.ready()
    assert root_disk(guest) == f"disk-{new}"
    world.do("disk_detach", vm_id, old)
    assert world.client.vm(vm_id)["disks_id"] == [new]

    # halted: back again
    world.power_off(vm_id)
    world.do("disk_attach", vm_id, old, {"position": 0})
    assert world.client.vm(vm_id)["disks_id"] == [old, new]
    world.do("disk_detach", vm_id, new)
    world.do("start", vm_id)
    guest.ready()
    assert root_disk(guest) == f"disk-{old}"
    world.throw_away(disks={new})


def test_the_system_disk_leaves_only_a_halted_vm(
    world: World, running: tuple[int, Guest], halted: int
) -> None:
    vm_id, guest = running
    disk = world.client.vm(vm_id)["disks_id"][0]
    refused = world.client.refusal("hosting.vm.disk_detach", vm_id, disk)
    assert refused.faultCode == 530469
    assert "OBJECT_DISK" in refused.faultString
    assert world.client.vm(vm_id)["disks_id"] == [disk]

    (system,) = world.client.vm(halted)["disks_id"]
    world.do("disk_detach", halted, system)
    assert world.client.vm(halted)["disks_id"] == []
    assert world.client.refusal("hosting.vm.start", halted).faultCode == 530246
    world.do("disk_attach", halted, system)
    assert world.disk(system)["is_boot_disk"]
    world.do("start", halted)
    assert guest.run("true") == ""
    world.power_off(halted)


def test_two_attachments_of_one_disk_at_once(world: World, running: tuple[int, Guest], halted: int) -> None:
    vm_id, _ = running
    (disk,) = world.disks(1)
    refused = []
    accepted: list[Struct] = []
    together = threading.Barrier(2)

    def attach(client: Client, where: int) -> None:
        together.wait(10)
        try:
            accepted.append(client.call("hosting.vm.disk_attach", where, disk))
        except Exception as error:
            refused.append(error)

    clients = [world.service.client(), world.service.client()]
    threads = [
        threading.Thread(target=attach, args=one) for one in zip(clients, (vm_id, halted), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    ended = world.client.finished(accepted)
    assert len(refused) + len([one for one in ended if one["step"] == "ERROR"]) == 1
    (winner,) = (one["vm_id"] for one in ended if one["step"] == "DONE")
    assert world.disk(disk)["vms_id"] == [winner]
    for one in ended:
        if one["step"] == "ERROR":
            assert f"disk#{disk} was attached to vm#{winner} meanwhile" in one["last_error"]
    loser = vm_id if winner == halted else halted
    for live in (True, False):
        if live and not world.service.domain(loser).isActive():
            continue
        assert f"ua-disk-{disk}" not in targets(world.service, loser, live=live)
    assert world.client.refusal("hosting.vm.disk_attach", loser, disk).faultCode == 530439
    world.do("disk_detach", winner, disk)
    world.throw_away(disks={disk})


def test_a_guest_sees_its_disk_grow(world: World, running: tuple[int, Guest], halted: int) -> None:
    vm_id, guest = running
    (disk,) = world.disks(1, kernel="raw", cmdline="root=/dev/vda", type="data")
    assert world.disk(disk)["kernel_cmdline"] == {"root": "/dev/vda"}
    world.do("disk_attach", vm_id, disk)
    name = block_device(guest, disk)
    system = world.client.vm(vm_id)["disks_id"][0]
    before = world.disk(system)["size"]
    world.client.done(
        [
            world.client.call("hosting.disk.update", disk, {"size": 3072}),
            world.client.call("hosting.disk.update", system, {"size": before + 1024}),
        ]
    )
    until(lambda: guest.run(f"cat /sys/block/{name}/size") == str(3072 * 2048), 10, "the guest sees 3 GiB")
    assert guest.run("cat /sys/block/vda/size") == str((before + 1024) * 2048)
    assert world.disk(disk)["size"] == 3072
    assert world.client.refusal("hosting.disk.update", disk, {"size": 2048}).faultCode == 530495
    world.do("disk_detach", vm_id, disk)
    # free, and on a halted VM
    change = {"size": 4096, "name": "grown", "kernel": "grub", "cmdline": "ro"}
    world.client.done(world.client.call("hosting.disk.update", disk, change))
    shown = world.disk(disk)
    assert [shown[key] for key in ("size", "name", "kernel_version")] == [4096, "grown", "grub"]
    assert shown["kernel_cmdline"] == {"ro": True}
    world.do("disk_attach", halted, disk)
    world.client.done(world.client.call("hosting.disk.update", disk, {"size": 5120}))
    world.do("disk_detach", halted, disk)
    world.do("disk_attach", vm_id, disk)
    assert guest.run(f"cat /sys/block/{block_device(guest, disk)}/size") == str(5120 * 2048)
    world.do("disk_detach", vm_id, disk)
    world.throw_away(disks={disk})
