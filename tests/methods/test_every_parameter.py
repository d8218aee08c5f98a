"""What a call asks for is kept with what it makes, key by key; guests are asked elsewhere."""

from typing import Any

import pytest

from api.coverage.reference import reference
from api.store.models import Disk, Iface, Vm
from tests.methods.world import World

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TOLD = {"run": "echo run", "script": "#!/bin/sh\n", "script_args": "one two", "login": "moritz"}


def keys_of(struct: str) -> set[str]:
    """The keys of a struct of the reference."""
    return {key.name for key in reference().parameters[struct]}


def test_vm_create_takes_every_key(world: World) -> None:
    key = world.call("hosting.ssh.create", {"name": "laptop", "value": OTHER})
    disk = world.disk("sys")
    spec = {
        "datacenter_id": 1,
        "sys_disk_id": disk.id,
        "ai_active": 0,
        "bandwidth": 51200.0,
        "cores": 2,
        "farm": "alpha",
        "hostname": "web.example.net",
        "ip_version": "6",
        "keys": [key["id"]],
        "memory": 768,
        "password": "long enough",
        "shares": 3,
        "ssh_key": [KEY],
        "vm_max_memory": 1024,
        **TOLD,
    }
    assert set(spec) == keys_of("VMDescription") - {"iface_id"}
    operations = world.call("hosting.vm.create", spec)
    assert [one["type"] for one in operations] == ["iface_create", "vm_create"]
    vm = world.call("hosting.vm.info", operations[-1]["vm_id"])
    for name in ("datacenter_id", "cores", "farm", "hostname", "memory", "vm_max_memory"):
        assert vm[name] == spec[name], name
    assert vm["disks_id"] == [disk.id]
    assert (vm["ifaces"][0]["bandwidth"], [ip["version"] for ip in vm["ifaces"][0]["ips"]]) == (51200.0, [6])
    seed = world.get(Vm, vm["id"]).seed
    assert {name: seed[name] for name in TOLD} == TOLD
    assert sorted(seed["ssh_keys"]) == sorted([KEY, OTHER])
    assert "long enough" not in str(seed)


def test_vm_create_takes_an_interface(world: World) -> None:
    iface = world.iface(addresses=("192.0.2.2",))
    spec = {"datacenter_id": 1, "sys_disk_id": world.disk("sys").id, "iface_id": iface.id}
    (operation,) = world.call("hosting.vm.create", spec)
    assert world.call("hosting.vm.info", operation["vm_id"])["ifaces_id"] == [iface.id]


def test_vm_start_takes_every_key(world: World) -> None:
    key = world.call("hosting.ssh.create", {"name": "laptop", "value": OTHER})
    vm = world.vm()
    world.disk("sys", vm_id=vm.id, position=0)
    params = {"farm": "beta", "keys": [key["id"]], "password": "long enough", "ssh_key": [KEY], **TOLD}
    assert set(params) == keys_of("VMStart")
    world.call("hosting.vm.start", vm.id, params)
    kept = world.get(Vm, vm.id)
    assert (kept.farm, kept.seed_version) == ("beta", vm.seed_version + 1)
    assert {name: kept.seed[name] for name in TOLD} == TOLD
    assert sorted(kept.seed["ssh_keys"]) == sorted([KEY, OTHER])


DISK = {
    "cmdline": "root=/dev/vda ro",
    "kernel": "grub",
    "name": "data",
    "size": 4096,
    "snapshot_profile": 2,
    "type": "data",
}


def check_disk(shown: dict[str, Any], size: int = 4096) -> None:
    """The disk is as `DISK` asked for."""
    assert (shown["name"], shown["size"], shown["type"]) == ("data", size, "data")
    assert shown["kernel_version"] == "grub"
    assert shown["kernel_cmdline"] == {"root": "/dev/vda", "ro": True}
    assert (shown["snapshot_profile_id"], shown["snapshot_profile"]["name"]) == (2, "full_week")


def test_disk_create_takes_every_key(world: World) -> None:
    assert set(DISK) == keys_of("DiskDescription") - {"datacenter_id", "repulse_from"}
    made = world.call("hosting.disk.create", {"datacenter_id": 1, **DISK})
    check_disk(world.call("hosting.disk.info", made["disk_id"]))
    (listed,) = world.call("hosting.disk.list", {"id": made["disk_id"]})
    check_disk(listed)


def test_disk_create_from_takes_every_key(world: World) -> None:
    source = world.disk("source", size=2048)
    made = world.call("hosting.disk.create_from", {"datacenter_id": 1, **DISK}, source.id)
    shown = world.call("hosting.disk.info", made["disk_id"])
    check_disk(shown)
    assert shown["source"] == source.id


def test_disk_update_takes_every_key(world: World) -> None:
    disk = world.disk("old", size=2048)
    change = {name: value for name, value in DISK.items() if name != "type"}
    assert set(change) == keys_of("DiskUpdate")
    world.call("hosting.disk.update", disk.id, change)
    # the size follows when the operation is carried out
    check_disk(world.call("hosting.disk.info", disk.id), size=2048)
    world.call("hosting.disk.update", disk.id, {"snapshot_profile": ""})
    assert world.get(Disk, disk.id).snapshot_profile_id is None


def test_kernels(world: World) -> None:
    assert world.call("hosting.disk.list_kernels", 1) == {"linux-hvm": ["grub", "raw"]}
    assert world.fault("hosting.disk.list_kernels", 99).code == 532742


@pytest.mark.parametrize(("given", "versions"), [("4", [4, 6]), ("6", [6]), (4, [4, 6]), (6, [6])])
def test_iface_create_takes_the_version_as_a_string_or_a_number(
    world: World, given: str | int, versions: list[int]
) -> None:
    spec = {"datacenter_id": 1, "ip_version": given, "bandwidth": 51200.0}
    made = world.call("hosting.iface.create", spec)
    shown = world.call("hosting.iface.info", made["iface_id"])
    assert [ip["version"] for ip in shown["ips"]] == versions
    assert world.get(Iface, shown["id"]).bandwidth == 51200.0


def test_iface_update(world: World) -> None:
    iface = world.iface()
    updated = world.call("hosting.iface.update", iface.id, {"bandwidth": 1024.0})
    assert (updated["type"], updated["iface_id"]) == ("iface_update", iface.id)
