"""Guests that do not let go of a device."""

from collections.abc import Iterator

import pytest

from tests.conftest import Reach
from tests.devices.kit import World, block_device, serials, targets
from tests.service.client import Struct
from tests.service.guest import Identity
from tests.service.host import Host
from tests.service.process import Service
from tests.service.waiting import until

pytestmark = pytest.mark.guest

SETTINGS = {
    "HYPERVISOR_PATIENCE__DETACH": "8",
    "HYPERVISOR_PATIENCE__DETACH_AGAIN": "2",
    "HYPERVISOR_PATIENCE__REBOOT": "3",
    "HYPERVISOR_PATIENCE__STOP": "4",
    "HYPERVISOR_PATIENCE__STOP_AGAIN": "2",
}
HINT = "it is detached at the next reboot or stop of the VM"


@pytest.fixture(scope="module")
def little(
    tmp_path_factory: pytest.TempPathFactory, host: Host, identity: Identity, reach: Reach
) -> Iterator[World]:
    """A service with little patience."""
    service = Service(tmp_path_factory.mktemp("deaf"), host, SETTINGS)
    try:
        service.start()
        yield World(service, service.client(), identity, reach)
    finally:
        service.dispose()


def deaf_vm(world: World) -> int:
    """A VM without an operating system, which hears nothing, with two interfaces and two disks."""
    system, data = world.disks(2)
    (iface,) = world.ifaces({})
    operations = world.client.call(
        "hosting.vm.create", {"datacenter_id": world.here, "sys_disk_id": system, "memory": 128}
    )
    world.client.done(operations)
    vm_id = int(operations[-1]["vm_id"])
    world.do("disk_attach", vm_id, data)
    world.do("iface_attach", vm_id, iface["id"])
    return vm_id


def refused(world: World, operations: list[Struct]) -> None:
    """The guest did not let go, and the operations say so."""
    for one in world.client.finished(operations):
        assert one["step"] == "ERROR"
        assert one["last_error"].startswith("the guest did not let go of ")
        assert one["last_error"].endswith(HINT)


def free(world: World, disk: int, iface: int) -> None:
    """Wait until the disk and the interface are on no VM."""

    def both() -> bool:
        shown = world.client.call("hosting.iface.info", iface)
        return (world.disk(disk)["vms_id"], shown["vm_id"], shown["state"]) == ([], None, "free")

    until(both, 15, f"disk {disk} and iface {iface} are free")


def test_what_a_guest_does_not_let_go_of_leaves_with_its_power(little: World) -> None:
    first, second = deaf_vm(little), deaf_vm(little)
    held = {
        one: (little.client.vm(one)["disks_id"][1], little.client.vm(one)["ifaces_id"][1])
        for one in (first, second)
    }
    operations = []
    for vm_id, (disk, iface) in held.items():
        operations.append(little.client.call("hosting.vm.disk_detach", vm_id, disk))
        operations.append(little.client.call("hosting.vm.iface_detach", vm_id, iface))
    refused(little, operations)
    for vm_id, (disk, iface) in held.items():
        # still attached, as the machine has it; not at its next start
        assert little.disk(disk)["vms_id"] == [vm_id]
        assert little.client.vm(vm_id)["ifaces_id"][1] == iface
        assert little.client.refusal("hosting.vm.disk_attach", vm_id, disk).faultCode == 530439
        assert little.client.refusal("hosting.disk.delete", disk).faultCode == 530439
        aliases = {f"ua-disk-{disk}", f"ua-iface-{iface}"}
        assert aliases <= targets(little.service, vm_id, live=True).keys()
        assert not aliases & targets(little.service, vm_id, live=False).keys()
    little.client.done(
        [little.client.call("hosting.vm.reboot", first), little.client.call("hosting.vm.stop", second)]
    )

    for vm_id, (disk, iface) in held.items():
        free(little, disk, iface)
        assert len(little.client.vm(vm_id)["disks_id"]) == len(little.client.vm(vm_id)["ifaces_id"]) == 1
    aliases = {f"ua-disk-{held[first][0]}", f"ua-iface-{held[first][1]}"}
    assert not aliases & targets(little.service, first, live=True).keys()
    # and may be attached elsewhere
    little.do("disk_attach", second, held[first][0])
    little.discard(first, second)
    little.throw_away(disks={disk for disk, _ in held.values()}, ifaces={iface for _, iface in held.values()})


def test_a_suspended_guest_lets_go_later_and_a_restart_waits_on(little: World) -> None:
    (vm,) = little.vms({})
    guest = little.reach(vm)
    late, killed = little.disks(2)
    for disk in (late, killed):
        little.do("disk_attach", vm["id"], disk)
        block_device(guest, disk)
    domain = little.service.domain(vm["id"])
    domain.suspend()
    little.client.in_state(vm["id"], "paused")
    refused(little, [little.client.call("hosting.vm.disk_detach", vm["id"], late)])
    assert little.disk(late)["vms_id"] == [vm["id"]]
    domain.resume()
    until(lambda: little.disk(late)["vms_id"] == [], 20, "the guest lets go when it goes on")
    assert f"disk-{late}" not in serials(guest)
    assert f"disk-{killed}" in serials(guest)

    domain.suspend()
    little.client.in_state(vm["id"], "paused")
    operation = little.client.call("hosting.vm.disk_detach", vm["id"], killed)
    alias = f"ua-disk-{killed}"
    until(lambda: alias not in targets(little.service, vm["id"], live=False), 10, "the detachment has begun")
    little.service.kill()
    little.service.start()
    assert little.client.operation(operation["id"])["step"] == "RUN"
    domain.resume()
    little.client.done(operation)
    assert little.disk(killed)["vms_id"] == []
    assert f"disk-{killed}" not in serials(guest)
    little.discard(vm["id"])
    little.throw_away(disks={late, killed})
