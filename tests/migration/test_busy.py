"""Machines that give a migration much to do: one that writes without a pause, and ten at once."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.devices.kit import World, block_device
from tests.migration.moving import depart, elsewhere, finalize, synced, whole
from tests.service.client import address
from tests.service.guest import Guest

pytestmark = pytest.mark.guest

MANY = 10
BOOTS = 120.0  # seconds, for all of them beside each other

# what is written is kept in memory: making it up would take longer than writing it
_WRITE = """\
dd if=/dev/urandom of=/run/block bs=1M count=16 2>/dev/null
(while dd if=/run/block of=/dev/{device} bs=1M conv=fsync 2>/dev/null; do echo >> /run/passes; done) \
    </dev/null >/dev/null 2>&1 &
"""


def passes(guest: Guest) -> int:
    """How often the guest has written its disk."""
    return int(guest.run("wc -l < /run/passes"))


def test_a_machine_that_writes_as_fast_as_it_can(world: World) -> None:
    (vm,) = world.vms({"hostname": "busy"})
    (disk,) = world.disks(1)
    guest = world.reach(vm)
    world.do("disk_attach", vm["id"], disk)
    there = elsewhere(world, vm["datacenter_id"])
    guest.run(_WRITE.format(device=block_device(guest, disk)))
    guest.run("until [ -s /run/passes ]; do sleep 0.1; done")

    first, begun = passes(guest), time.monotonic()
    operation = depart(world, vm["id"])
    synced(world, operation)
    took, meanwhile = time.monotonic() - begun, passes(guest) - first
    print(f"in step after {took:.1f} s, in which {16 * meanwhile} MiB were written")
    assert meanwhile > 0
    begun = time.monotonic()
    finalize(world, vm["id"])
    world.client.done(operation)
    print(f"moved after {time.monotonic() - begun:.1f} s more")
    assert whole(world, vm["id"]) == there
    guest = world.reach(world.client.vm(vm["id"]))
    at_least = passes(guest)
    guest.run(f"until [ $(wc -l < /run/passes) -gt {at_least} ]; do sleep 0.1; done")
    world.discard(vm["id"])


def test_ten_at_once(world: World) -> None:
    """They are not waited for before: a guest that boots has a disk to read and no address to renew."""
    vms = world.vms(*({"hostname": f"herd-{number}", "memory": 128} for number in range(MANY)))
    there = elsewhere(world, vms[0]["datacenter_id"])
    begun = time.monotonic()
    operations = [depart(world, vm["id"]) for vm in vms]
    for one in operations:
        synced(world, one, 120)
    copied = time.monotonic()
    for vm in vms:
        finalize(world, vm["id"])
    world.client.done(operations, 120)
    print(
        f"{MANY} machines in step after {copied - begun:.1f} s, moved after {time.monotonic() - begun:.1f} s"
    )
    assert {whole(world, vm["id"]) for vm in vms} == {there}
    now = [world.client.vm(vm["id"]) for vm in vms]
    assert len({address(vm) for vm in now}) == MANY
    with ThreadPoolExecutor(MANY) as pool:
        said = list(pool.map(lambda vm: world.reach(vm, seconds=BOOTS).run("hostname"), now))
    print(f"... reached after {time.monotonic() - begun:.1f} s")
    assert said == [vm["hostname"] for vm in now]
    world.discard(*(vm["id"] for vm in vms))
