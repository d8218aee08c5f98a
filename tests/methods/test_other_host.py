"""What is refused between datacenters on different hosts, and what is accepted."""

import pytest

from api.methods.faults import Cause, Object, refuse
from api.operations.hosts import address_of
from api.store.models import Datacenter
from tests.methods.world import OWN, World

THERE = "qemu+tls://there.example/system"
SOCKET = "qemu+unix:///system?socket=/run/other"
REFUSED = "datacenter LU-BI1 is on another host that has no migration_address in the settings"
YES = ["LU-BI1"]


def put(world: World, first: str | None, second: str | None, address: str | None = None) -> None:
    """Name the libvirts of the first two datacenters, and the second one's address."""
    world.change(world.get(Datacenter, 1), libvirt_uri=first)
    world.change(world.get(Datacenter, 2), libvirt_uri=second, migration_address=address)


def test_a_running_vm_needs_the_other_host_s_address(world: World) -> None:
    put(world, None, SOCKET)
    vm = world.vm(state="running")
    assert world.call("hosting.vm.can_migrate", vm.id)["can_migrate_to"] == []
    fault = world.fault("hosting.vm.migrate", vm.id, False, {"datacenter_id": 2})
    assert REFUSED in fault.text
    assert fault.code == refuse(Object.VM, Cause.INCOMPATIBILITY, "", "vm_id").code
    # and so does the way back to the service's own host
    put(world, SOCKET, None)
    assert REFUSED in world.fault("hosting.vm.migrate", vm.id, False, {"datacenter_id": 2}).text
    put(world, None, SOCKET, "192.0.2.7")
    assert world.call("hosting.vm.can_migrate", vm.id)["can_migrate_to"] == YES
    assert world.call("hosting.vm.migrate", vm.id)["type"] == "hosting_migration_vm"


def test_what_is_carried_needs_none(world: World) -> None:
    put(world, None, SOCKET)
    vm, disk = world.vm(), world.disk()
    assert world.call("hosting.vm.can_migrate", vm.id)["can_migrate_to"] == YES
    assert world.call("hosting.disk.migrate", disk.id, 2)["type"] == "hosting_migration_disk"


@pytest.mark.parametrize("uris", [(THERE, THERE), (None, OWN), (OWN, None), (None, THERE)])
def test_the_same_host_and_one_with_a_name_need_none(
    world: World, uris: tuple[str | None, str | None]
) -> None:
    put(world, *uris)
    assert world.call("hosting.vm.can_migrate", world.vm(state="running").id)["can_migrate_to"] == YES


@pytest.mark.parametrize(
    ("uri", "own", "setting", "address"),
    [
        (THERE, OWN, None, "there.example"),
        (THERE, OWN, "192.0.2.7", "192.0.2.7"),
        ("qemu+ssh://root@[2001:db8::7]:22/system", OWN, None, "2001:db8::7"),
        (None, THERE, None, "there.example"),
        (SOCKET, OWN, None, None),
        (None, OWN, None, None),
    ],
)
def test_where_other_hosts_reach_it(
    world: World, uri: str | None, own: str, setting: str | None, address: str | None
) -> None:
    put(world, None, uri, setting)
    assert address_of(world.get(Datacenter, 2), own) == address
