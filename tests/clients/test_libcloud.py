"""apache-libcloud: the life of a node, its volumes, snapshots, interfaces and keys."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.clients.cloud import Cloud
from tests.devices.kit import World, block_device, serials
from tests.service.client import Struct, address
from tests.service.guest import Guest, banner
from tests.service.waiting import until

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def cloud(world: World) -> Iterator[Cloud]:
    """libcloud's driver with the first account's key."""
    with contextlib.closing(Cloud(world.service.port, world.client.key)) as made:
        yield made


@pytest.fixture(scope="module")
def vm(world: World, cloud: Cloud) -> Iterator[Struct]:
    """The machine behind libcloud's `node`: what hosting.vm.info says of it."""
    cloud.value("next(one for one in driver.list_locations() if one.name == 'FR-SD5')", "here")
    cloud.value("next(one for one in driver.list_images(here) if one.name == 'Tiny')", "image")
    cloud.value("next(one for one in driver.list_sizes() if one.id == 'small')", "size")
    made = cloud.value(
        f"driver.import_key_pair_from_string('theirs', {world.identity.public!r}).extra['id']", "key"
    )
    assert world.client.call("hosting.ssh.info", made)["value"] == world.identity.public
    state = cloud.value(
        "driver.create_node('cloudy', size, image, location=here, login='bob', "
        "password='secret words', keypairs=[key]).state"
    )
    assert state == "running"
    (listed,) = world.client.call("hosting.vm.list", {"hostname": "cloudy"})
    cloud.value(f"driver.ex_get_node({listed['id']})", "node")
    yield world.client.vm(listed["id"])
    if world.client.vm(listed["id"])["state"] != "deleted":
        world.discard(listed["id"])


@pytest.fixture
def guest(world: World, vm: Struct) -> Guest:
    """Its guest."""
    return world.reach(vm)


def test_what_there_is(world: World, cloud: Cloud) -> None:
    assert cloud.value("[(one.name, one.country) for one in driver.list_locations()]") == [
        ["FR-SD5", "France"],
        ["LU-BI1", "Luxembourg"],
    ]
    images = world.client.call("hosting.image.list")
    assert cloud.value("[[one.name, int(one.id)] for one in driver.list_images()]") == [
        [one["label"], one["disk_id"]] for one in images
    ]
    assert cloud.value("[(one.id, one.ram) for one in driver.list_sizes()]") == [
        ["small", 256],
        ["medium", 1024],
        ["large", 2048],
        ["x-large", 4096],
    ]


def test_a_node(world: World, cloud: Cloud, vm: Struct, guest: Guest) -> None:
    assert (vm["memory"], vm["cores"], vm["ifaces"][0]["bandwidth"]) == (256, 1, 10240.0)
    assert vm["disks"][0]["name"] == "disk_cloudy"
    assert guest.with_password("secret words", "bob") == "bob"
    addresses = [address(vm), address(vm, 6)]
    described = "[node.name, node.state, node.public_ips, int(node.id)]"
    assert cloud.value(described) == ["cloudy", "running", addresses, vm["id"]]
    assert ["cloudy", "running", addresses] in cloud.value(
        "[[one.name, one.state, one.public_ips] for one in driver.list_nodes()]"
    )
    world.service.agent_answers(vm["id"])
    boot = guest.boot_id()
    assert cloud.value("driver.reboot_node(node)") is True
    assert guest.rebooted(boot)


def test_volumes(world: World, cloud: Cloud, guest: Guest) -> None:
    # megabytes, whatever libcloud's documentation says
    disk = cloud.value("int(driver.create_volume(1024, 'first', location=here).id)")
    cloud.value(f"driver.ex_get_volume({disk})", "volume")
    assert cloud.value("[volume.name, volume.size, volume.extra]") == ["first", 1024, {"can_snapshot": True}]
    assert disk in cloud.value("[int(one.id) for one in driver.list_volumes()]")
    assert cloud.value("driver.attach_volume(node, volume)") is True
    device = block_device(guest, disk)
    guest.run(f"echo written > /dev/{device}; sync")

    cloud.value(f"next(one for one in driver.ex_list_disks() if int(one.id) == {disk})", "disk")
    assert cloud.value("driver.ex_snapshot_disk(disk, 'shot')") is True
    (shot,) = world.client.call("hosting.disk.list", {"name": "shot"})
    assert (shot["type"], shot["source"], shot["datacenter_id"]) == ("snapshot", disk, world.here)
    assert cloud.value("driver.detach_volume(node, volume)") is True
    assert f"disk-{disk}" not in serials(guest)

    cloud.value(f"next(one for one in driver.ex_list_disks() if int(one.id) == {shot['id']})", "shot")
    assert "can't snapshot" in cloud.error("driver.ex_snapshot_disk(shot)")
    copy = cloud.value("int(driver.create_volume(2048, 'copy', location=here, snapshot=shot).id)")
    cloud.value(f"next(one for one in driver.ex_list_disks() if int(one.id) == {copy})", "copy")
    assert cloud.value("driver.ex_update_disk(copy, 3072, 'grown')") is True
    assert cloud.value("driver.ex_node_attach_disk(node, copy)") is True
    device = block_device(guest, copy)
    assert guest.run(f"head -c 7 /dev/{device}; cat /sys/block/{device}/size").split() == [
        f"written{3072 * 2048}"
    ]
    assert cloud.value(f"driver.ex_get_volume({copy}).name") == "grown"
    assert cloud.value("driver.ex_node_detach_disk(node, copy)") is True
    for one in (disk, shot["id"], copy):
        assert cloud.value(f"driver.destroy_volume(driver.ex_get_volume({one}))") is True
    assert "530442" in cloud.error(f"driver.ex_get_volume({disk})")


def test_interfaces(world: World, cloud: Cloud, vm: Struct, guest: Guest) -> None:
    (iface,) = world.ifaces({"ip_version": 4})
    new = [ip["ip"] for ip in iface["ips"]]
    listed = cloud.value(
        "[[int(one.id), one.node_id, [ip.inet for ip in one.ips]] for one in driver.ex_list_interfaces()]"
    )
    assert [iface["id"], None, new] in listed
    assert [vm["ifaces_id"][0], vm["id"], [address(vm), address(vm, 6)]] in listed
    cloud.value(f"next(one for one in driver.ex_list_interfaces() if int(one.id) == {iface['id']})", "iface")
    assert cloud.value("driver.ex_node_attach_interface(node, iface)") is True
    until(lambda: banner(new[0]), 20, "the new address answers")
    assert cloud.value("driver.ex_node_detach_interface(node, iface)") is True
    assert new[0] not in guest.run("ip -o address")
    world.throw_away(ifaces={iface["id"]})


def test_key_pairs(world: World, cloud: Cloud, vm: Struct) -> None:
    (key,) = world.client.call("hosting.ssh.list", {"name": "theirs"})
    assert cloud.value("[[one.name, one.fingerprint] for one in driver.list_key_pairs()]") == [
        ["theirs", key["fingerprint"]]
    ]
    assert cloud.value("driver.get_key_pair('theirs').extra['id']") == key["id"]
    assert "501741" in cloud.error(f"driver.import_key_pair_from_string('theirs', {world.identity.public!r})")
    assert cloud.value("driver.delete_key_pair(driver.get_key_pair('theirs'))") is True
    assert cloud.value("driver.list_key_pairs()") == []
    # the machine keeps it
    assert world.reach(vm).run("id -un") == "root"


@pytest.mark.usefixtures("vm")
def test_what_is_wrong(world: World, cloud: Cloud) -> None:
    for key, code in (("a" * 24, "510150"), ("too short", "501237")):
        with contextlib.closing(Cloud(world.service.port, key)) as stranger:
            assert stranger.error("driver.list_nodes()").startswith(f"Exception: {code}: Error on object")
            assert stranger.error("driver.list_images()").startswith(f"GandiException: (1011) {code}: ")
    assert "530242" in cloud.error("driver.ex_get_node(999999)")
    assert "530431" in cloud.error("driver.create_volume(1000, 'odd', location=here)")
    before = world.service.inventory()
    for name, code in (("bad name", "530238"), ("x" * 64, "530238")):
        assert code in cloud.error(
            f"driver.create_node({name!r}, size, image, location=here, login='bob', password='x')"
        )
    assert world.service.inventory() == before


def test_a_node_is_destroyed(world: World, cloud: Cloud, vm: Struct) -> None:
    assert cloud.value("driver.destroy_node(node)") is True
    assert world.client.vm(vm["id"])["state"] == "deleted"
    assert "cloudy" not in cloud.value("[one.name for one in driver.list_nodes()]")
    assert world.client.call("hosting.disk.list", {"name": "disk_cloudy"}) == []
