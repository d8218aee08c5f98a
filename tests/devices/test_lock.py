"""An administrator's lock, and the states that a VM shows."""

import pytest

from tests.devices.kit import World
from tests.service.client import Struct
from tests.service.waiting import until

pytestmark = pytest.mark.guest


def locked(world: World, vm_id: int) -> None:
    done = world.service.cli("vm", "lock", str(vm_id))
    assert done.returncode == 0, done.stderr
    assert f"vm {vm_id} is locked" in done.stdout


def unlocked(world: World, vm_id: int) -> None:
    done = world.service.cli("vm", "unlock", str(vm_id))
    assert done.returncode == 0, done.stderr


def test_a_locked_vm_stands_still_and_its_owner_may_do_nothing(world: World) -> None:
    operations = world.client.create_from({"hostname": "locked", "ssh_key": world.identity.public})
    vm_id = int(operations[-1]["vm_id"])
    assert world.client.vm(vm_id)["state"] == "being_created"
    world.client.done(operations)
    vm = world.client.in_state(vm_id, "running")
    guest = world.reach(vm)
    boot = guest.boot_id()
    (disk,), (iface,) = world.disks(1), world.ifaces({})
    snapshot = world.copy(vm["disks_id"][0], type="snapshot")

    locked(world, vm_id)
    assert (world.client.vm(vm_id)["state"], world.service.domain(vm_id).state()[0]) == ("locked", 3)
    assert [one["id"] for one in world.client.call("hosting.vm.list", {"state": "locked"})] == [vm_id]
    calls: list[tuple[str, tuple[object, ...]]] = [
        ("start", (vm_id,)),
        ("stop", (vm_id,)),
        ("reboot", (vm_id,)),
        ("delete", (vm_id,)),
        ("update", (vm_id, {"memory": 512})),
        ("disk_attach", (vm_id, disk)),
        ("disk_detach", (vm_id, vm["disks_id"][0])),
        ("disk_rollback", (snapshot,)),
        ("iface_attach", (vm_id, iface["id"])),
        ("iface_detach", (vm_id, vm["ifaces_id"][0])),
    ]
    for method, arguments in calls:
        refused = world.client.refusal(f"hosting.vm.{method}", *arguments)
        assert refused.faultCode == 530260, (method, refused.faultString)
        assert "locked" in refused.faultString
    # nor does it go on when somebody else wakes it: it is still not the owner's
    world.service.domain(vm_id).resume()
    assert world.client.refusal("hosting.vm.stop", vm_id).faultCode == 530260
    world.service.domain(vm_id).suspend()

    unlocked(world, vm_id)
    assert world.client.vm(vm_id)["state"] == "running"
    assert guest.boot_id() == boot

    # a halted one stays so
    world.power_off(vm_id)
    locked(world, vm_id)
    assert world.client.refusal("hosting.vm.start", vm_id).faultCode == 530260
    unlocked(world, vm_id)
    assert world.client.vm(vm_id)["state"] == "halted"
    world.discard(vm_id)
    assert world.client.vm(vm_id)["state"] == "deleted"
    world.throw_away(disks={disk, snapshot}, ifaces={iface["id"]})
    done = world.service.cli("vm", "lock", str(vm_id))
    assert done.returncode != 0
    assert f"vm {vm_id} cannot be locked now" in done.stderr


def test_a_lock_outlasts_what_was_under_way(world: World) -> None:
    system = world.disks(1)[0]
    made = world.client.call(
        "hosting.vm.create", {"datacenter_id": world.here, "sys_disk_id": system, "memory": 128}
    )
    world.client.done(made)
    vm_id = int(made[-1]["vm_id"])
    # it hears nothing: the stop takes its whole time
    stop: Struct = world.client.call("hosting.vm.stop", vm_id)
    world.client.reached(stop, ["RUN"])
    locked(world, vm_id)
    world.client.finished(stop)
    until(lambda: not world.service.domain(vm_id).isActive(), 10, "the stop ends")
    assert world.client.vm(vm_id)["state"] == "locked"
    assert world.client.refusal("hosting.vm.start", vm_id).faultCode == 530260
    unlocked(world, vm_id)
    assert world.client.vm(vm_id)["state"] == "halted"
    world.discard(vm_id)
