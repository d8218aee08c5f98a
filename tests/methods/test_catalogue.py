"""Datacenters and images: the same for every account."""

from datetime import datetime

from tests.methods.world import ALICE, BOB, World


def test_datacenter(world: World) -> None:
    shown = world.call("hosting.datacenter.list")
    assert shown[0] == {
        "id": 1,
        "dc_code": "FR-SD5",
        "iso": "FR",
        "name": "Bissy",
        "country": "France",
        "can_migrate_to": [2],
        "deactivate_at": None,
        "iaas_closed_for": "NONE",
        "paas_closed_for": "ALL",
    }
    assert [one["can_migrate_to"] for one in shown] == [[2], [1], [1, 2]]
    assert world.call("datacenter.list", None, key=BOB) == shown


def test_image(world: World) -> None:
    image = world.image("Debian 12", os_arch="x86-64")
    shown = world.call("hosting.image.info", image.id)
    assert isinstance(shown.pop("date_created"), datetime)
    assert isinstance(shown.pop("date_updated"), datetime)
    assert shown == {
        "id": image.id,
        "datacenter_id": 1,
        "disk_id": image.disk_id,
        "label": "Debian 12",
        "os_arch": "x86-64",
        "kernel_version": "raw",
        "visibility": "all",
        "size": 3072,
        "author_id": 0,
    }
    assert [one["id"] for one in world.call("image.list", key=ALICE)] == [image.id]


def test_image_filters(world: World) -> None:
    first = world.image("Debian 12").id
    second = world.image("Debian 12", datacenter_id=2).id
    old = world.image("Debian 8", visibility="deprecated", os_arch="x86-32").id
    for options, found in (
        ({}, [first, second, old]),
        ({"datacenter_id": 1}, [first, old]),
        ({"label": "Debian 12"}, [first, second]),
        ({"label": ["Debian 8", "Debian 9"], "datacenter_id": [1, 2]}, [old]),
        ({"label": "debian 12"}, []),
        ({"label": 12}, []),
        ({"os_arch": "x86-32"}, [old]),
        ({"visibility": "all"}, [first, second]),
        ({"kernel_version": "raw", "id": [first, old]}, [first, old]),
        ({"size": 3072}, [first, second, old]),
        ({"size": 1}, []),
        ({"disk_id": 2}, [second]),
        ({"author_id": 0}, [first, second, old]),
        ({"author_id": 1}, []),
        ({"sort_by": "label DESC", "items_per_page": 1}, [old]),
        ({"sort_by": "size"}, [first, second, old]),
    ):
        assert [one["id"] for one in world.call("hosting.image.list", options)] == found, options


def test_unknown_image(world: World) -> None:
    fault = world.fault("hosting.image.info", 7)
    assert fault.code == 532542
    assert fault.text == "Error on object : OBJECT_IMAGE (CAUSE_NOTFOUND) [Image '7' doesn't exist.]"


def test_snapshot_profiles_are_those_of_disks(world: World) -> None:
    disks = world.call("hosting.snapshotprofile.list")
    assert [one["name"] for one in disks] == ["minimal", "full_week", "security"]
    # clients look a name up in both lists, and one that is in both would be ambiguous
    for options in ((), (None,), ({},), ({"name": "minimal"},), ({"id": [1, 2]},)):
        assert world.call("paas.snapshotprofile.list", *options) == []
    assert world.fault("paas.snapshotprofile.list", {"name": ["minimal", {}]}).code // 100 == 5012


def test_kernel_options(world: World) -> None:
    flavours = world.call("hosting.disk.list_kernels", 1)
    for kernel in (kernel for kernels in flavours.values() for kernel in kernels):
        assert world.call("hosting.disk.list_options", kernel) == {}
    assert world.fault("hosting.disk.list_options", "3.12-x86_64 (hvm)").code == 530401
    assert world.fault("hosting.disk.list_options", 3).code == 501210
    assert world.fault("hosting.disk.list_options").code == 501637
