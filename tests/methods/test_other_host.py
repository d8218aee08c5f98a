"""What is refused between datacenters on different hosts."""

import pytest

from api.methods.faults import Cause, Object, refuse
from api.store.models import Datacenter
from tests.methods.world import OWN, World

THERE = "qemu+tls://there.example/system"
REFUSED = "datacenter LU-BI1 is on another host"


def put(world: World, first: str | None, second: str | None) -> None:
    """Name the libvirts of the first two datacenters."""
    world.change(world.get(Datacenter, 1), libvirt_uri=first)
    world.change(world.get(Datacenter, 2), libvirt_uri=second)


def test_nothing_is_copied_to_another_host(world: World) -> None:
    put(world, None, THERE)
    vm, disk = world.vm(), world.disk()
    assert world.call("hosting.vm.can_migrate", vm.id)["can_migrate_to"] == []
    fault = world.fault("hosting.vm.migrate", vm.id, False, {"datacenter_id": 2})
    assert REFUSED in fault.text
    assert fault.code == refuse(Object.VM, Cause.INCOMPATIBILITY, "", "vm_id").code
    assert REFUSED in world.fault("hosting.disk.migrate", disk.id, 2).text


@pytest.mark.parametrize("uris", [(THERE, THERE), (None, OWN), (OWN, None)])
def test_the_same_host_however_it_is_named(world: World, uris: tuple[str | None, str | None]) -> None:
    put(world, *uris)
    vm, disk = world.vm(), world.disk()
    assert world.call("hosting.vm.can_migrate", vm.id)["can_migrate_to"] == ["LU-BI1"]
    assert world.call("hosting.disk.migrate", disk.id, 2)["type"] == "hosting_migration_disk"
