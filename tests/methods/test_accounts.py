"""Somebody else's object is one that never existed; and what an account knows of itself."""

from collections.abc import Callable
from typing import Any

import pytest

from api.operations.jobs import Planned
from tests.methods.world import ALICE, BOB, World

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


def an_ip(world: World) -> int:
    """Bob's address."""
    world.iface(BOB, addresses=("192.0.2.5",))
    return int(world.call("hosting.ip.list", key=BOB)[0]["id"])


def a_key(world: World) -> int:
    """Bob's SSH key."""
    return int(world.call("hosting.ssh.create", {"name": "laptop", "value": KEY}, key=BOB)["id"])


def an_operation(world: World) -> int:
    """Bob's operation."""
    return world.job(Planned("vm_stop"), key=BOB)[0].id


@pytest.mark.parametrize(
    ("make", "name", "arguments", "code"),
    [
        (an_ip, "hosting.ip.info", (), 531842),
        (an_ip, "hosting.ip.update", ({"reverse": "a.example"},), 531842),
        (a_key, "hosting.ssh.info", (), 501742),
        (a_key, "hosting.ssh.delete", (), 501742),
        (an_operation, "operation.info", (), 510242),
        (an_operation, "operation.cancel", (), 510242),
    ],
)
def test_the_fault_tells_nothing(
    world: World, make: Callable[[World], int], name: str, arguments: tuple[Any, ...], code: int
) -> None:
    bobs = make(world)
    his, none = world.fault(name, bobs, *arguments), world.fault(name, 99, *arguments)
    assert his.code == none.code == code
    assert his.text.replace(str(bobs), "99") == none.text
    assert his.fields == none.fields


@pytest.mark.parametrize(
    ("make", "name"), [(an_ip, "hosting.ip"), (a_key, "hosting.ssh"), (an_operation, "operation")]
)
def test_filters_find_only_ones_own(world: World, make: Callable[[World], int], name: str) -> None:
    bobs = make(world)
    assert world.call(f"{name}.list", {"id": bobs}) == []
    assert world.call(f"{name}.count") == 0
    assert [one["id"] for one in world.call(f"{name}.list", key=BOB)] == [bobs]


@pytest.mark.parametrize(
    "name", ["hosting.ip.info", "hosting.ssh.info", "operation.info", "hosting.image.info"]
)
@pytest.mark.parametrize("identifier", [0, -1, 2**31 - 1, -(2**31)])
def test_ids_that_never_were(world: World, name: str, identifier: int) -> None:
    fault = world.fault(name, identifier)
    assert fault.code % 100 == 42
    assert f"'{identifier}' doesn't exist." in fault.text


def test_account_info(world: World) -> None:
    vm = world.vm(cores=2, memory=1024)
    world.vm("gone", state="deleted", cores=8)
    world.disk(size=2048)
    world.disk("image", key=None)
    world.iface(addresses=("192.0.2.5", "2001:db8::5"), vm_id=vm.id, num=0)
    world.vm("bobs", key=BOB, cores=4)
    shown = world.call("hosting.account.info")
    assert {"id", "handle", "fullname", "credits", "cycle_day", "resources", "share_definition"} <= set(shown)
    assert (shown["handle"], shown["rating_enabled"], shown["credits"]) == ("ALICE-GANDI", True, 0)
    assert shown["date_credits_expiration"] is shown["average_credit_cost"] is shown["products"] is None
    kinds = ("shares", "servers", "cores", "memory", "disk", "bandwidth", "ips", "slots")
    assert set(shown["resources"]) == {"available", "expired", "granted", "used"}
    for resources in shown["resources"].values():
        assert set(resources) == set(kinds)
        assert isinstance(resources["bandwidth"], float)
    assert [shown["resources"]["used"][kind] for kind in kinds] == [1, 1, 2, 1024, 2048, 102400.0, 2, 1]
    # two open datacenters of 13 addresses each, one of them taken
    assert shown["resources"]["available"]["ips"] == 25
    assert shown["resources"]["available"]["cores"] == 8
    assert shown["resources"]["granted"]["ips"] == 27


def test_account_info_of_a_new_account(world: World) -> None:
    used = world.call("hosting.account.info", key=BOB)["resources"]["used"]
    assert not any(used.values())
    assert world.call("account.info", key=ALICE)["handle"] == "ALICE-GANDI"
