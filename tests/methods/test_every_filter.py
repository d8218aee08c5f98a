"""Every filter of the reference finds what it is about, and nothing else: in the list and in the count."""

from datetime import datetime
from typing import Any

import pytest

from api.coverage.reference import reference
from api.methods.table import lookup
from api.operations.jobs import Planned
from api.store.models import Ip
from tests.methods.world import World

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
DAY, NEXT_DAY = datetime.fromisoformat("2013-01-01"), datetime.fromisoformat("2013-01-02")
PAGE = ("items_per_page", "page", "sort_by")

# there are two of everything, with the ids 1 and 2; by namespace and key: a value, the ids that it finds
FOUND: dict[str, dict[str, tuple[Any, list[int]]]] = {
    "hosting.vm": {
        "cores": (2, [2]),
        "datacenter_id": (1, [1]),
        "date_created": ("20130102T00:00:00", [2]),
        "farm": ("alpha", [1]),
        "hostname": ("db", [2]),
        "id": (1, [1]),
        "memory": (1024, [2]),
        "state": ("halted", [1]),
        "~hostname": ("We", [1]),
    },
    "hosting.disk": {
        "datacenter_id": (2, [2]),
        "id": (2, [2]),
        "name": ("sys", [1]),
        "size": (2048, [2]),
        "state": ("created", [1]),
        "type": ("snapshot", [2]),
        "vm_id": (1, [1]),
    },
    "hosting.iface": {
        "datacenter_id": (1, [1]),
        "id": (2, [2]),
        "state": ("used", [1]),
        "type": ("private", [2]),
        "vlan": ("dmz", [2]),
        "vlan_id": (2, [2]),
        "vm_id": (1, [1]),
    },
    "hosting.ip": {
        "datacenter_id": (2, [2]),
        "id": (1, [1]),
        "iface_id": (2, [2]),
        "ip": ("192.0.2.2", [1]),
        "num": (1, [2]),
        "reverse": ("web.example", [1]),
        "state": ("being_created", [2]),
        "version": ("4", [1]),
        "vm_hostname": ("web", [1]),
        "~vm_hostname": ("E", [1]),
    },
    "hosting.image": {
        "datacenter_id": (2, [2]),
        "kernel_version": ("grub", [2]),
        "label": ("Debian 12", [1]),
        "os_arch": ("x86-32", [2]),
    },
    "hosting.vlan": {"datacenter_id": (2, [2]), "id": (1, [1]), "name": ("dmz", [2])},
    "hosting.ssh": {"id": (2, [2]), "name": ("laptop", [1])},
    "operation": {
        "<date_created": ("2013-01-02", [1]),
        "<date_start": ("2013-01-02", [1]),
        "<date_updated": ("2013-01-02", [1]),
        ">date_created": ("2013-01-01", [2]),
        ">date_start": ("2013-01-01", [2]),
        ">date_updated": ("2013-01-01", [2]),
        "cert.hostname": ("example.net", []),
        "cert_id": (1, []),
        "contact_id": (1, []),
        "date_created": ("20130102T00:00:00", [2]),
        "date_start": ("20130101T00:00:00", [1]),
        "date_updated": ("20130101T00:00:00", [1]),
        "disk.name": ("sys", [2]),
        "disk_id": (1, [2]),
        "domain": ("example.net", []),
        "id": (1, [1]),
        "iface_id": (1, [2]),
        "mbox_id": (1, []),
        "site_id": (1, []),
        "step": ("WAIT", [1]),
        "type": ("disk_attach", [2]),
        "vm_id": (1, [1]),
    },
}


@pytest.fixture
def two(world: World) -> World:
    """A world with two of everything, which differ in everything."""
    first = world.vm("web", farm="alpha", date_created=DAY)
    second = world.vm(
        "db", state="running", cores=2, memory=1024, datacenter_id=2, farm="beta", date_created=NEXT_DAY
    )
    world.disk("sys", size=1024, vm_id=first.id, position=0)
    world.disk("snap", size=2048, type="snapshot", state="being_created", datacenter_id=2, source_id=1)
    world.vlan("lan")
    dmz = world.vlan("dmz", datacenter_id=2)
    world.iface(addresses=("192.0.2.2",), vm_id=first.id, num=0, state="used")
    world.iface(
        addresses=("2001:db8::2",),
        vm_id=second.id,
        num=0,
        state="being_created",
        datacenter_id=2,
        vlan_id=dmz.id,
    )
    for number, reverse in ((1, "web.example"), (2, "db.example")):
        world.change(world.get(Ip, number), reverse=reverse, num=number - 1)
    world.image("Debian 12", os_arch="x86-64")
    world.image("Old", datacenter_id=2, os_arch="x86-32", kernel_version="grub")
    world.call("hosting.ssh.create", {"name": "laptop", "value": KEY})
    world.call("hosting.ssh.create", {"name": "desk", "value": KEY})
    for day, step, planned in (
        (DAY, "WAIT", Planned("vm_stop", vm_id=1)),
        (NEXT_DAY, "RUN", Planned("disk_attach", vm_id=2, disk_id=1, iface_id=1)),
    ):
        (operation,) = world.job(planned)
        world.change(operation, step=step, date_created=day, date_updated=day, date_start=day)
    return world


def ids(world: World, namespace: str, options: dict[str, Any]) -> list[int]:
    """The ids of what is listed."""
    return [one["id"] for one in world.call(f"{namespace}.list", options)]


@pytest.mark.parametrize(
    ("namespace", "key"), [(namespace, key) for namespace, keys in FOUND.items() for key in keys]
)
def test_filter(two: World, namespace: str, key: str) -> None:
    value, found = FOUND[namespace][key]
    given = [{key: value}]
    if "date" not in key and not key.startswith("~"):
        given.append({key: [value]})
    for options in given:
        assert ids(two, namespace, options) == found
        if lookup(f"{namespace}.count") is not None:
            assert two.call(f"{namespace}.count", options) == len(found)


@pytest.mark.parametrize("namespace", FOUND)
def test_page_and_order(two: World, namespace: str) -> None:
    assert ids(two, namespace, {}) == [1, 2]
    assert ids(two, namespace, {"items_per_page": 1}) == [1]
    assert ids(two, namespace, {"items_per_page": 1, "page": 1}) == [2]
    assert ids(two, namespace, {"sort_by": "id DESC"}) == [2, 1]


@pytest.mark.parametrize("namespace", FOUND)
def test_no_filter_of_the_reference_is_forgotten(namespace: str) -> None:
    methods = {method.name: method for method in reference().methods}
    for name in (f"{namespace}.list", f"{namespace}.count"):
        if name in methods:
            keys = {key.name for key in reference().parameters[methods[name].takes[0].type]}
            assert keys - set(PAGE) == set(FOUND[namespace]), name


def test_snapshot_profiles(world: World) -> None:
    for key, value in (("id", 2), ("name", "full_week")):
        for options in ({key: value}, {key: [value]}):
            assert [one["id"] for one in world.call("hosting.snapshotprofile.list", options)] == [2]
