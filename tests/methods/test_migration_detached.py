"""``hosting.disk.migrate`` and ``hosting.iface.migrate``: what is refused, and what is accepted."""

from typing import Any

import pytest
from sqlalchemy import select

from api.store.models import Claim, Datacenter, Operation
from hypervisor.storage.pool import Room
from tests.methods.world import BOB, World

HERE, THERE, CLOSED = 1, 2, 3
SIZE = 10240  # MiB
DRY = {"--dry-run": True}


def made(world: World, kind: str, **values: Any) -> int:
    """A detached disk or interface, by its id."""
    if kind == "disk":
        return world.disk("data", **values).id
    return world.iface(addresses=("192.0.2.2", "2001:db8::2"), **values).id


def refusal(world: World, name: str, *arguments: Any) -> tuple[int, str, tuple[str, ...]]:
    """The refusal of a call: its code, its reason, its fields. Nothing is accepted."""
    fault = world.fault(name, *arguments)
    assert world.call("operation.count") == 0
    return fault.code, fault.text.partition("[")[2].removesuffix("]"), fault.fields


def claims(world: World, operation: dict[str, Any]) -> set[str]:
    with world.store.reading() as session:
        job = session.get_one(Operation, operation["id"]).job_id
        return set(session.scalars(select(Claim.resource).where(Claim.job_id == job)))


def arguments(world: World, operation: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    with world.store.reading() as session:
        job = session.get_one(Operation, operation["id"]).job
        return job.workflow, job.arguments


@pytest.mark.parametrize("kind", ["disk", "iface"])
def test_the_target_is_checked(world: World, kind: str) -> None:
    identifier, name = made(world, kind), f"hosting.{kind}.migrate"
    assert refusal(world, name, identifier, 99) == (532742, "Datacenter '99' doesn't exist.", ())
    here = "target_dc: it is in datacenter FR-SD5 already"
    assert refusal(world, name, identifier, HERE) == (532730, here, ("target_dc",))
    closed = {
        "disk": (530470, "target_dc: datacenter US-BA1 is closed", ("target_dc",)),
        "iface": (532760, "datacenter US-BA1 is closed", ("target_dc",)),
    }
    assert refusal(world, name, identifier, CLOSED) == closed[kind]
    assert refusal(world, name, identifier)[0] == 501637
    assert refusal(world, name, identifier, "2")[0] == 501010
    world.change(world.get(Datacenter, CLOSED), iaas_closed_for="NEW")
    assert world.call(name, identifier, CLOSED)["params"]["to_dc_id"] == CLOSED


@pytest.mark.parametrize("kind", ["disk", "iface"])
def test_it_must_be_detached(world: World, kind: str) -> None:
    vm = world.vm()
    place = {"position": 0} if kind == "disk" else {"num": 0, "state": "used"}
    identifier = made(world, kind, vm_id=vm.id, **place)
    code = 530439 if kind == "disk" else 531739
    assert refusal(world, f"hosting.{kind}.migrate", identifier, THERE) == (
        code,
        f"{kind}#{identifier} is attached to vm#{vm.id}: detach it first",
        (f"{kind}_id",),
    )


@pytest.mark.parametrize("kind", ["disk", "iface"])
def test_somebody_elses_is_not_there(world: World, kind: str) -> None:
    bobs = made(world, kind, key=BOB)
    his = refusal(world, f"hosting.{kind}.migrate", bobs, THERE)
    none = refusal(world, f"hosting.{kind}.migrate", 999, THERE)
    assert his[0] == none[0] == (530442 if kind == "disk" else 531742)
    assert his[1].replace(str(bobs), "999") == none[1]
    assert world.call("operation.count", key=BOB) == 0


def test_an_images_disk_is_nobodys(world: World) -> None:
    assert refusal(world, "hosting.disk.migrate", world.image("Tiny").disk_id, THERE)[0] == 530442


def test_a_disk_moves_with_its_snapshots(world: World) -> None:
    disk = world.disk("data")
    snapshots = [world.disk(name, type="snapshot", source_id=disk.id, size=2048) for name in ("a", "b")]
    made_of_it = world.disk("copy", source_id=snapshots[0].id)
    operation = world.call("hosting.disk.migrate", disk.id, THERE)
    assert (operation["type"], operation["step"]) == ("hosting_migration_disk", "WAIT")
    assert (operation["disk_id"], operation["vm_id"]) == (disk.id, None)
    wanted = {"from_dc_id": HERE, "to_dc_id": THERE, "inner_step": "wait_sync", "size": SIZE + 2 * 2048}
    assert wanted.items() <= operation["params"].items()
    infos = operation["infos"]
    assert (infos["product_type"], infos["product_action"], infos["id"]) == ("disk", "migrate", str(disk.id))
    ids = (disk.id, *(one.id for one in snapshots))
    assert claims(world, operation) == {f"disk:{one}" for one in ids}
    assert made_of_it.id not in ids
    assert arguments(world, operation) == (
        "hosting_migration_disk",
        {"disk_id": disk.id, "datacenter_id": THERE},
    )
    assert world.wakes == [None]


def test_a_snapshot_moves_with_its_disk_only(world: World) -> None:
    disk = world.disk("data")
    snapshot = world.disk("snap", type="snapshot", source_id=disk.id)
    assert refusal(world, "hosting.disk.migrate", snapshot.id, THERE) == (
        532491,
        f"disk#{snapshot.id} is a snapshot: it migrates with disk#{disk.id}",
        ("disk_id",),
    )
    with world.store.writing() as session:
        session.delete(session.merge(disk))
    assert world.call("hosting.disk.migrate", snapshot.id, THERE)["disk_id"] == snapshot.id


def test_the_target_must_have_space_for_the_disk(world: World) -> None:
    disk = world.disk("data")
    world.rooms["LU-BI1"] = Room(active=False, free=10**6)
    assert refusal(world, "hosting.disk.migrate", disk.id, THERE) == (
        530470,
        "target_dc: the storage pool of datacenter LU-BI1 does not run, or its libvirt does not answer",
        ("target_dc",),
    )
    world.rooms["LU-BI1"] = Room(active=True, free=SIZE - 1)
    assert refusal(world, "hosting.disk.migrate", disk.id, THERE) == (
        530470,
        f"target_dc: datacenter LU-BI1 has {SIZE - 1} MiB left, and {SIZE} may be needed",
        ("target_dc",),
    )
    world.rooms["LU-BI1"] = Room(active=True, free=SIZE)
    world.call("hosting.disk.migrate", disk.id, THERE)
    # all of it is promised now
    left = world.fault("hosting.disk.migrate", world.disk("other").id, THERE)
    assert f"has 0 MiB left, and {SIZE} may be needed" in left.text


def test_an_interface_moves(world: World) -> None:
    iface = made(world, "iface")
    world.rooms["LU-BI1"] = Room(active=False, free=0)
    operation = world.call("hosting.iface.migrate", iface, THERE)
    assert (operation["type"], operation["step"]) == ("hosting_migration_iface", "WAIT")
    assert (operation["iface_id"], operation["vm_id"]) == (iface, None)
    assert {"from_dc_id": HERE, "to_dc_id": THERE}.items() <= operation["params"].items()
    assert "inner_step" not in operation["params"]
    assert claims(world, operation) == {f"iface:{iface}"}
    assert arguments(world, operation) == (
        "hosting_migration_iface",
        {"iface_id": iface, "datacenter_id": THERE},
    )


def test_an_interface_of_a_vlan_does_not(world: World) -> None:
    vlan = world.vlan("lan")
    iface = world.iface(vlan_id=vlan.id)
    assert refusal(world, "hosting.iface.migrate", iface.id, THERE) == (
        531770,
        f"iface#{iface.id} is on vlan#{vlan.id}, which is of its datacenter",
        ("iface_id",),
    )
