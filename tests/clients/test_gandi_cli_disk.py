"""gandi.cli: disks, on a machine that runs."""

from collections.abc import Iterator

import pytest

from tests.clients.gandi import Gandi
from tests.devices.kit import World, block_device, serials
from tests.service.client import Struct
from tests.service.guest import Guest
from tests.service.waiting import until

pytestmark = [pytest.mark.guest, pytest.mark.usefixtures("web")]


@pytest.fixture
def guest(world: World, web: Struct) -> Guest:
    """The guest of the machine `web`."""
    return world.reach(web)


@pytest.fixture(autouse=True)
def nothing_left(world: World) -> Iterator[None]:
    """Each test deletes its disks by the client; what a failed one leaves goes here."""
    before = {one["id"] for one in world.client.call("hosting.disk.list")}
    yield
    left = [one for one in world.client.call("hosting.disk.list") if one["id"] not in before]
    for one in left:
        for vm in one["vms_id"]:
            world.do("disk_detach", vm, one["id"])
    world.throw_away(disks={one["id"] for one in left})


def disk(world: World, name: str) -> Struct:
    """The only disk of that name."""
    (found,) = world.client.call("hosting.disk.list", {"name": name})
    return dict(found)


def test_a_disk_comes_and_goes(world: World, gandi: Gandi, guest: Guest) -> None:
    said = gandi.work("disk", "create", "--name", "data", "--size", "1G", "--snapshotprofile", 1)
    assert "Creating your disk." in said.text
    made = disk(world, "data")
    assert (made["size"], made["type"], made["state"]) == (1024, "data", "created")
    assert made["snapshot_profile_id"] == 1

    gandi.work("disk", "attach", "-f", "data", "web")
    device = block_device(guest, made["id"])
    assert guest.run(f"cat /sys/block/{device}/ro") == "0"
    assert "already attached to this vm" in gandi.run("disk", "attach", "-f", "data", "web").text
    listed = gandi.run("disk", "list", "--attached", "--vm", "--id", "--type", "--snapshotprofile").records
    assert {
        "name": "data", "state": "created", "size": "1024", "type": "data", "id": str(made["id"]),
        "vm": "web", "profile": "minimal",
    } in listed  # fmt: skip
    shown = gandi.run("disk", "info", "data").fields
    assert (shown["vm"], shown["profile"], shown["datacenter"]) == ("web", "minimal", "FR-SD5")

    said = gandi.work("disk", "detach", "-f", "data")
    assert "Will detach it." in said.text
    assert f"disk-{made['id']}" not in serials(guest)
    assert "data" in gandi.run("disk", "list", "--detached").column("name")

    gandi.background("disk", "attach", "-f", "-r", "-p", 3, "data", "web")
    assert guest.run(f"cat /sys/block/{block_device(guest, made['id'])}/ro") == "1"
    # deleting detaches first
    said = gandi.work("disk", "delete", "-f", "data")
    assert "Detaching your disk(s)." in said.text
    assert "Deleting your disk." in said.text
    assert f"disk-{made['id']}" not in serials(guest)
    assert "unknown identifier data" in gandi.refused("disk", "info", "data")


def test_a_snapshot_brings_the_content_back(world: World, gandi: Gandi, guest: Guest) -> None:
    said = gandi.work("disk", "create", "--vm", "web", "--size", "1G", "--name", "kept")
    assert "Attaching your disk." in said.text
    made = disk(world, "kept")["id"]
    device = block_device(guest, made)
    guest.run(f"echo before > /dev/{device}; sync")
    said = gandi.work("disk", "snapshot", "kept", "--name", "then")
    assert "Creating your disk." in said.text
    shot = disk(world, "then")
    assert (shot["type"], shot["source"], shot["can_snapshot"]) == ("snapshot", made, False)
    assert gandi.run("disk", "list", "--only-snapshot").column("name") == ["then"]
    assert "then" not in gandi.run("disk", "list", "--only-data").column("name")
    guest.run(f"echo after! > /dev/{device}; sync")
    # not while a machine has it
    assert "is attached]" in gandi.refused("disk", "rollback", "then")
    gandi.background("disk", "detach", "-f", "kept")
    gandi.work("disk", "rollback", "then")
    gandi.background("disk", "attach", "-f", "kept", "web")
    assert guest.run(f"head -c 6 /dev/{block_device(guest, made)}") == "before"
    assert "<Fault 532491:" in gandi.refused("disk", "snapshot", "then")
    gandi.background("disk", "delete", "-f", "kept", "then")


def test_from_a_source(world: World, gandi: Gandi) -> None:
    gandi.work("disk", "create", "--source", "Tiny", "--name", "copy")
    made = disk(world, "copy")
    assert (made["label"], made["source"], made["vms_id"]) == ("Tiny", world.image, [])
    gandi.background("disk", "create", "--source", "copy", "--name", "copied")
    assert disk(world, "copied")["source"] == made["id"]
    gandi.background("disk", "delete", "-f", "copy", "copied")


def test_update(world: World, gandi: Gandi, guest: Guest) -> None:
    made = world.disks(1, name="small")[0]
    gandi.background("disk", "attach", "-f", "small", "web")
    device = block_device(guest, made)
    gandi.work("disk", "update", "small", "--name", "large", "--size", "+1G", "--snapshotprofile", 3)
    until(lambda: guest.run(f"cat /sys/block/{device}/size") == str(2048 * 2048), 20, "the guest sees 2 GiB")
    shown = gandi.run("disk", "info", "large").fields
    assert (shown["id"], shown["size"], shown["profile"]) == (str(made), "2048", "security")
    gandi.background(
        "disk", "update", "large", "--delete-snapshotprofile", "--kernel", "grub", "--cmdline", "ro a=b"
    )
    shown = gandi.run("disk", "info", "large").fields
    assert "profile" not in shown
    assert (shown["kernel"], shown["cmdline"]) == ("grub", "ro a=b")
    assert "<Fault 530495:" in gandi.refused("disk", "update", "large", "--size", "1G")
    assert "<Fault 530431:" in gandi.refused("disk", "update", "large", "--size", "9T")
    assert "invalid choice" in gandi.refused("disk", "update", "large", "--snapshotprofile", 9)
    said = gandi.refused("disk", "update", "large", "--kernel", "3.12")
    # the client keeps its choices in a set: their order differs from run to run
    assert "(choose from grub, raw)" in said or "(choose from raw, grub)" in said
    gandi.background("disk", "delete", "-f", "large")
