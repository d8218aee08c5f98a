"""What is wrong about disks and interfaces is refused, with the fault that names it, and changes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.devices.kit import World
from tests.service.client import Client, Struct, steady
from tests.service.inventory import count_operations

pytestmark = pytest.mark.guest


@dataclass(frozen=True)
class Scene:
    """A running VM with a second disk and a halted one; free things, things elsewhere, somebody else's."""

    world: World
    running: Struct
    halted: Struct
    names: Struct
    stranger: Client


@pytest.fixture(scope="module")
def scene(world: World) -> Iterator[Scene]:
    running, halted = world.vms({"hostname": "runs", "memory": 128}, {"hostname": "rests", "memory": 128})
    world.power_off(halted["id"])
    here = world.here
    there = next(one["id"] for one in world.client.call("hosting.datacenter.list") if one["id"] != here)
    stranger = world.service.another_account("STRANGER-GANDI")
    free, second, far = (*world.disks(2), *world.disks(1, datacenter_id=there))
    (iface,) = world.ifaces({})
    (far_iface,) = world.ifaces({"datacenter_id": there})
    theirs = stranger.call("hosting.disk.create", {"datacenter_id": here, "size": 1024})
    their_iface = stranger.call("hosting.iface.create", {"datacenter_id": here})
    stranger.done([theirs, their_iface])
    world.do("disk_attach", running["id"], second, {"position": 2})
    snapshot = world.copy(free, type="snapshot")
    names = {
        "running": running["id"],
        "halted": halted["id"],
        "system": running["disks_id"][0],
        "resting": halted["disks_id"][0],
        "second": second,
        "free": free,
        "far": far,
        "theirs": theirs["disk_id"],
        "snapshot": snapshot,
        "image": world.image,
        "card": running["ifaces_id"][0],
        "iface": iface["id"],
        "far_iface": far_iface["id"],
        "their_iface": their_iface["iface_id"],
        "nothing": 99999,
    }
    yield Scene(world, running, halted, names, stranger)
    world.discard(running["id"], halted["id"])
    world.throw_away(disks={second, free, far, snapshot}, ifaces={iface["id"], far_iface["id"]})
    stranger.done(
        [
            stranger.call("hosting.disk.delete", theirs["disk_id"]),
            stranger.call("hosting.iface.delete", their_iface["iface_id"]),
        ]
    )


CALLS: list[tuple[str, list[object], int, str]] = [
    ("vm.disk_attach", ["running", "second"], 530439, "is attached"),
    ("vm.disk_attach", ["halted", "second"], 530439, "is attached"),
    ("vm.disk_attach", ["halted", "system"], 530439, "is attached"),
    ("vm.disk_attach", ["running", "far"], 530451, "datacenter"),
    ("vm.disk_attach", ["running", "theirs"], 530442, "Disk"),
    ("vm.disk_attach", ["running", "nothing"], 530442, "Disk"),
    ("vm.disk_attach", ["running", "image"], 530442, "Disk"),
    ("vm.disk_attach", ["nothing", "free"], 530242, "Vm"),
    ("vm.disk_attach", ["running", "snapshot"], 532491, "is a snapshot"),
    ("vm.disk_attach", ["running", "free", {"position": 2}], 530445, "position"),
    ("vm.disk_attach", ["running", "free", {"position": -1}], 530445, "position"),
    ("vm.disk_attach", ["running", "free", {"position": 24}], 530445, "position"),
    ("vm.disk_attach", ["running", "free", {"position": "1"}], 501010, "position"),
    ("vm.disk_attach", ["running", "free", {"access": "write"}], 501237, "access"),
    ("vm.disk_attach", ["running", "free", {"access": 1}], 501210, "access"),
    ("vm.disk_attach", ["running", "free", {"speed": 1}], 501537, "speed"),
    ("vm.disk_attach", ["running", "free", {}, 1], 501637, ""),
    ("vm.disk_attach", ["running"], 501637, ""),
    ("vm.disk_detach", ["running", "system"], 530469, "system disk"),
    ("vm.disk_detach", ["running", "free"], 530498, "not attached"),
    ("vm.disk_detach", ["halted", "second"], 530498, "not attached"),
    ("vm.disk_detach", ["running", "theirs"], 530442, "Disk"),
    ("vm.disk_detach", ["nothing", "second"], 530242, "Vm"),
    ("vm.iface_attach", ["halted", "card"], 531739, "is attached"),
    ("vm.iface_attach", ["running", "far_iface"], 531751, "datacenter"),
    ("vm.iface_attach", ["running", "their_iface"], 531742, "Iface"),
    ("vm.iface_attach", ["nothing", "iface"], 530242, "Vm"),
    ("vm.iface_detach", ["running", "iface"], 531798, "not attached"),
    ("vm.iface_detach", ["halted", "card"], 531798, "not attached"),
    ("vm.iface_detach", ["running", "nothing"], 531742, "Iface"),
    ("vm.disk_rollback", ["free"], 532491, "is not a snapshot"),
    ("vm.disk_rollback", ["system"], 532491, "is not a snapshot"),
    ("vm.disk_rollback", ["theirs"], 530442, "Disk"),
    ("disk.rollback_from", ["free"], 532491, "is not a snapshot"),
    ("disk.rollback_from", ["nothing"], 530442, "Disk"),
    ("disk.update", ["system", {"size": 1024 * 1024 * 1024}], 530431, "size"),
    ("disk.update", ["second", {"size": 1500}], 530431, "size"),
    ("disk.update", ["second", {}], 530444, "nothing"),
    ("disk.delete", ["second"], 530439, "is attached"),
    ("iface.delete", ["card"], 531739, "is attached"),
]


@pytest.mark.parametrize(("method", "arguments", "code", "words"), CALLS, ids=str)
def test_refused(scene: Scene, method: str, arguments: list[object], code: int, words: str) -> None:
    before = scene.world.service.inventory(), count_operations(scene.world.service.state), shown(scene)
    meant = [scene.names.get(one, one) if isinstance(one, str) else one for one in arguments]
    refused = scene.world.client.refusal(f"hosting.{method}", *meant)
    assert refused.faultCode == code, refused.faultString
    assert words in refused.faultString
    now = scene.world.service.inventory(), count_operations(scene.world.service.state), shown(scene)
    assert now == before


def shown(scene: Scene) -> list[Struct]:
    """What is told of the two machines."""
    return [steady(scene.world.client.vm(one["id"])) for one in (scene.running, scene.halted)]


def test_somebody_else_sees_and_changes_nothing(scene: Scene) -> None:
    vm_id, second = scene.running["id"], scene.names["second"]
    for method, arguments in (
        ("disk_attach", (vm_id, scene.names["theirs"])),
        ("disk_detach", (vm_id, second)),
        ("iface_attach", (vm_id, scene.names["their_iface"])),
        ("iface_detach", (vm_id, scene.names["card"])),
        ("update", (vm_id, {"memory": 512})),
    ):
        assert scene.stranger.refusal(f"hosting.vm.{method}", *arguments).faultCode == 530242
    assert scene.stranger.refusal("hosting.vm.disk_rollback", scene.names["snapshot"]).faultCode == 530442


def test_every_position_taken(scene: Scene) -> None:
    disks = scene.world.disks(24)
    vm_id = scene.halted["id"]
    for disk in disks[:23]:
        scene.world.client.call("hosting.vm.disk_attach", vm_id, disk)
    scene.world.do("disk_detach", vm_id, disks[0])
    scene.world.do("disk_attach", vm_id, disks[0], {"position": 1})
    assert len(scene.world.client.vm(vm_id)["disks_id"]) == 24
    for options in ({}, {"position": 0}):
        refused = scene.world.client.refusal("hosting.vm.disk_attach", vm_id, disks[23], options)
        assert refused.faultCode == 530445, options
    scene.world.client.done(
        [scene.world.client.call("hosting.vm.disk_detach", vm_id, one) for one in disks[:23]]
    )
    scene.world.throw_away(disks=disks)
