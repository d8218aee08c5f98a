"""What does not run moves: a halted machine, a detached disk, a detached interface."""

from ipaddress import ip_address

import pytest

from hypervisor.network import reservations
from tests.conftest import NewService
from tests.devices.kit import World, block_device
from tests.migration.moving import depart, elsewhere, place, synced, traveller, volume, whole
from tests.service.process import Service
from tests.storage.conftest import qemu_io

pytestmark = pytest.mark.guest


def test_a_halted_machine_moves(world: World) -> None:
    mover = traveller(world, "halted", world.disks(1))
    (data,) = mover.data
    guest, here = mover.guest, mover.whole()
    there = elsewhere(world, here)
    world.service.agent_answers(mover.vm_id)
    guest.run(f"echo before > /disk-{data}/mark; sync")
    snapshot = world.copy(data, type="snapshot", name="then")
    guest.run(f"echo after > /disk-{data}/mark; sync")
    world.do("stop", mover.vm_id)
    before = world.service.inventory()

    operation = mover.depart()
    seen = synced(world, operation)
    assert seen[-1]["progress"]["percent"] == 100
    assert "is being migrated" in world.client.refusal("hosting.vm.start", mover.vm_id).faultString
    assert world.client.call("operation.cancel", operation["id"])
    (ended,) = world.client.finished(operation)
    assert (ended["step"], ended["last_error"]) == ("CANCEL", None)
    assert mover.whole() == here
    world.service.settled(before)

    operation = mover.depart()
    synced(world, operation)
    mover.finalize()
    world.client.done(operation)
    assert world.client.vm(mover.vm_id)["state"] == "halted"
    assert mover.whole() == there
    mover.counting()
    assert mover.guest.run(f"cat /disk-{data}/mark") == "after"
    world.do("stop", mover.vm_id)
    copy = world.copy(snapshot, name="of-then", datacenter_id=there)
    world.do("disk_attach", mover.vm_id, copy)
    mover.counting()
    device = block_device(mover.guest, copy)
    assert mover.guest.run(f"mkdir /then; mount /dev/{device} /then && cat /then/mark") == "before"
    world.discard(mover.vm_id)
    world.throw_away(disks={snapshot})


def test_a_detached_disk_moves_with_its_snapshot(world: World) -> None:
    (disk,) = world.disks(1)
    there = elsewhere(world, world.here)
    qemu_io(volume(world, disk), "write -P 5 0 20M")
    snapshot = world.copy(disk, type="snapshot", name="then")
    qemu_io(volume(world, disk), "write -P 6 10M 10M")
    operation = world.client.call("hosting.disk.migrate", disk, there)
    assert operation["type"] == "hosting_migration_disk"
    (ended,) = world.client.done(operation)
    assert ended["params"]["progress"]["percent"] == 100
    for one in (disk, snapshot):
        assert (world.disk(one)["datacenter_id"], world.disk(one)["state"]) == (there, "created")
        assert volume(world, one).parent.name == place(world, there).pool
    assert world.disk(snapshot)["source"] == disk
    qemu_io(volume(world, disk), "read -P 5 0 10M", "read -P 6 10M 10M", "read -P 0 20M 1M")
    qemu_io(volume(world, snapshot), "read -P 5 0 20M", "read -P 0 20M 1M")
    world.throw_away(disks={disk, snapshot})


def test_a_detached_interface_moves(world: World) -> None:
    (iface,) = world.ifaces({"ip_version": 4})
    there = elsewhere(world, world.here)
    connection = world.service.host.connection
    old = {ip_address(ip["ip"]) for ip in iface["ips"]}
    operation = world.client.call("hosting.iface.migrate", iface["id"], there)
    assert operation["type"] == "hosting_migration_iface"
    world.client.done(operation)
    moved = world.client.call("hosting.iface.info", iface["id"])
    new = {ip_address(ip["ip"]) for ip in moved["ips"]}
    assert moved["datacenter_id"] == there
    assert [ip["version"] for ip in moved["ips"]] == [ip["version"] for ip in iface["ips"]]
    assert {ip["datacenter_id"] for ip in moved["ips"]} == {there}
    assert not old & new
    reserved = [
        {address for entry in reservations(connection, place(world, one).network)
         for address in (entry.ipv4, entry.ipv6)}
        for one in (world.here, there)
    ]  # fmt: skip
    assert not old & reserved[0]
    assert new <= reserved[1]
    listed = {ip_address(ip["ip"]) for ip in world.client.call("hosting.ip.list", {"items_per_page": 500})}
    assert not old & listed
    world.throw_away(ifaces={iface["id"]})


def test_a_move_that_finishes_by_itself(new_service: NewService) -> None:
    service: Service = new_service(HYPERVISOR_MIGRATION__FINALIZE="true")
    client = service.start().client()
    vm = client.made({"memory": 128})
    world = World(service, client, None, None)  # type: ignore[arg-type]  # nobody looks into its guest
    there = elsewhere(world, vm["datacenter_id"])
    client.done(depart(world, vm["id"]))
    assert whole(world, vm["id"]) == there
    assert "is not being migrated" in client.refusal("hosting.vm.migrate", vm["id"], True).faultString
    # and halted, back
    service.domain(vm["id"]).destroy()
    client.in_state(vm["id"], "halted")
    client.done(depart(world, vm["id"], False, {"datacenter_id": vm["datacenter_id"]}))
    assert whole(world, vm["id"]) == vm["datacenter_id"]
