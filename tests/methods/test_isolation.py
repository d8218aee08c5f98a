"""A method that is given somebody else's id answers as for one that never was, and changes nothing."""

from typing import Any

import pytest

from api.methods import table
from api.methods.faults import Fault
from api.operations.jobs import Planned
from tests.methods.world import ALICE, BOB, World

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"

# values for the parameters beside the id that is tried
SPECS: dict[str, dict[str, Any]] = {
    "hosting.disk.create_from": {"datacenter_id": 1, "name": "copy"},
    "hosting.disk.update": {"name": "other"},
    "hosting.iface.update": {"bandwidth": 1024.0},
    "hosting.ip.update": {"reverse": "a.example"},
    "hosting.vlan.update": {"name": "other"},
    "hosting.vm.update": {"memory": 1024},
}
IDS = (
    "vm_id",
    "disk_id",
    "iface_id",
    "ip_id",
    "key_id",
    "vlan_id",
    "operation",
    "snapshot_id",
    "src_disk_id",
)
TRIED = [
    (entry, position)
    for entry in table.every()
    for position, parameter in enumerate(entry.parameters)
    if parameter.name in IDS and entry.name != "hosting.vm.create_from"
]


def objects(world: World, key: str) -> dict[str, int]:
    """One of everything, by the names of the parameters that take it."""
    vm = world.vm(key=key)
    disk = world.disk("data", key=key)
    snapshot = world.disk("snap", key=key, type="snapshot", source_id=disk.id)
    address = f"192.0.2.{10 + vm.id}"
    iface = world.iface(key=key, addresses=(address,))
    (ip,) = world.call("hosting.ip.list", {"ip": address}, key=key)
    ssh = world.call("hosting.ssh.create", {"name": "laptop", "value": KEY}, key=key)
    (operation,) = world.job(Planned("vm_stop"), key=key)
    return {
        "vm_id": vm.id,
        "disk_id": disk.id,
        "src_disk_id": disk.id,
        "snapshot_id": snapshot.id,
        "iface_id": iface.id,
        "ip_id": ip["id"],
        "key_id": ssh["id"],
        "vlan_id": world.vlan("lan", key=key).id,
        "operation": operation.id,
        # what goes beside an id where it is not a struct
        "target_dc": 2,
        "finalize_migration": False,
    }


@pytest.mark.parametrize(("entry", "position"), TRIED, ids=[f"{one.name}-{place}" for one, place in TRIED])
def test_somebody_elses_id(world: World, entry: table.Method, position: int) -> None:
    bobs, mine = objects(world, BOB), objects(world, ALICE)
    tried = entry.parameters[position].name

    def refusal(identifier: int) -> Fault:
        arguments: list[Any] = [
            mine.get(parameter.name, SPECS.get(entry.name, {})) for parameter in entry.parameters
        ]
        arguments[position] = identifier
        return world.fault(entry.name, *arguments)

    his, none = refusal(bobs[tried]), refusal(999)
    assert none.code % 100 == 42
    assert (his.code, his.fields) == (none.code, none.fields)
    assert his.text.replace(f"'{bobs[tried]}'", "'999'") == none.text
    assert world.call("operation.count", key=BOB) == 1
    assert world.call("operation.count") == 1


def test_a_vm_is_made_from_ones_own(world: World) -> None:
    bobs, mine = objects(world, BOB), objects(world, ALICE)
    disk = {"datacenter_id": 1, "name": "sys"}
    for spec, source in (
        ({}, "src_disk_id"),
        ({"iface_id": "iface_id"}, None),
        ({"keys": "key_id"}, None),
    ):

        def refusal(ids: dict[str, int], spec: dict[str, str] = spec, source: str | None = source) -> Fault:
            given = {key: [ids[value]] if key == "keys" else ids[value] for key, value in spec.items()}
            chosen = ids[source] if source else mine["src_disk_id"]
            return world.fault("hosting.vm.create_from", {"datacenter_id": 1, **given}, disk, chosen)

        his, none = refusal(bobs), refusal(dict.fromkeys(bobs, 999))
        assert none.code % 100 == 42
        assert his.code == none.code
        assert "doesn't exist" in his.text


@pytest.mark.parametrize("namespace", ["vm", "disk", "iface", "ip", "ssh"])
def test_lists_hold_ones_own(world: World, namespace: str) -> None:
    bobs, mine = objects(world, BOB), objects(world, ALICE)
    identifier = {"ssh": "key_id"}.get(namespace, f"{namespace}_id")
    listed = [one["id"] for one in world.call(f"hosting.{namespace}.list")]
    assert mine[identifier] in listed
    assert bobs[identifier] not in listed
    assert world.call(f"hosting.{namespace}.list", {"id": [bobs[identifier]]}) == []
    assert world.call(f"hosting.{namespace}.count") == len(listed)
