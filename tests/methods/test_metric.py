"""hosting.metric: what was asked, what is known, and what is refused."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.store.models import Vm
from api.store.statistics import Point, Source
from tests.methods.world import ALICE, BOB, World

# the last whole minute: nothing of it is older than what is kept as samples
END = int(time.time()) // 60 * 60


def text(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def asked(vm: Vm, minutes: int = 10, **changes: Any) -> dict[str, Any]:
    sampler = {"unit": "minutes", "value": 5, "function": "avg"} | changes.pop("sampler", {})
    return {
        "start": text(END - 60 * minutes),
        "end": text(END),
        "query": "vif.bytes.all",
        "resource_id": [vm.id],
        "resource_type": "vm",
        "sampler": sampler,
        **changes,
    }


def sample(world: World, source: Source, *values: float | None) -> None:
    """One value for each of the last minutes; None where there is none."""
    world.statistics.add(
        (source, Point(END - 60 * ago, 60, value))
        for ago, value in zip(range(len(values) - 1, -1, -1), values, strict=True)
        if value is not None
    )


def values(series: dict[str, Any]) -> list[float | None]:
    return [point.get("value") for point in series["points"]]


@pytest.fixture
def vm(world: World) -> Vm:
    return world.vm()


def test_what_the_known_client_asks(world: World, vm: Vm) -> None:
    iface = world.iface(vm_id=vm.id, num=0, state="used")
    sample(world, Source(vm.id, "vif.bytes", iface.id, "in"), *(float(one) for one in range(10)))
    answer = world.call(
        "hosting.metric.query",
        asked(vm, minutes=24 * 60, sampler={"unit": "hours", "value": 1, "function": "max"}),
    )
    assert [one.pop("direction") for one in answer] == [["in"], ["out"]]
    assert [len(one["points"]) for one in answer] == [24, 24]
    assert values(answer[0])[-1] == 9.0
    assert values(answer[0])[0] is None
    assert values(answer[1]) == [None] * 24
    assert answer[0]["points"][0] == {
        "timestamp": f"{datetime.fromtimestamp(END, UTC) - timedelta(days=1):%Y-%m-%dT%H:%M:%S}"
    }
    for one in answer:
        assert {key: one[key] for key in ("metric", "type", "resource_id", "resource_type")} == {
            "metric": "vif.bytes",
            "type": ["public"],
            "resource_id": vm.id,
            "resource_type": "vm",
        }


@pytest.mark.parametrize(
    ("function", "expected"),
    [("avg", [2.0, 8.0]), ("max", [4.0, 10.0]), ("min", [0.0, 6.0]), ("sum", [600.0, 1200.0])],
)
def test_functions(world: World, vm: Vm, function: str, expected: list[float]) -> None:
    # in the second interval are only minutes 6, 8 and 10; an average does not count the others as nothing
    sample(world, Source(vm.id, "vbd.bytes", 4, "read"), 0, 1, 2, 3, 4, 6, None, 8, None, 10)
    if function == "sum":
        expected = [600.0, 24 * 60.0]
    q = asked(vm, query="vbd.bytes.read", sampler={"function": function})
    (series,) = world.call("hosting.metric.query", q)
    assert values(series) == expected
    assert series["direction"] == ["read"]
    assert "type" not in series


def test_the_objects_of_a_vm_are_one(world: World, vm: Vm) -> None:
    for disk_id in (4, 5):
        sample(world, Source(vm.id, "vbd.bytes", disk_id, "write"), *([10.0] * disk_id))
    (series,) = world.call(
        "hosting.metric.query", asked(vm, query="vbd.bytes.write", sampler={"value": 1, "function": "max"})
    )
    assert values(series) == [None] * 5 + [10.0] + [20.0] * 4


def test_private_interfaces_are_apart(world: World, vm: Vm) -> None:
    vlan = world.vlan("back")
    public, private = world.iface(vm_id=vm.id), world.iface(vm_id=vm.id, vlan_id=vlan.id)
    sample(world, Source(vm.id, "vif.bytes", public.id, "in"), *([1.0] * 10))
    sample(world, Source(vm.id, "vif.bytes", private.id, "in"), *([5.0] * 10))
    answer = world.call("hosting.metric.query", asked(vm))
    assert {(one["type"][0], one["direction"][0]): values(one)[0] for one in answer} == {
        ("public", "in"): 1.0, ("public", "out"): None, ("private", "in"): 5.0, ("private", "out"): None,
    }  # fmt: skip


def test_several_vms_each_once(world: World, vm: Vm) -> None:
    other = world.vm("other")
    sample(world, Source(other.id, "vcpu.time", 0, "used"), 0.5)
    sample(world, Source(other.id, "vcpu.time", 1, "used"), 0.25)
    q = asked(vm, query="vcpu.time.all", resource_id=[other.id, vm.id, other.id], sampler={"value": 10})
    answer = world.call("metric.query", q)
    assert [(one["resource_id"], values(one)) for one in answer] == [(other.id, [0.75]), (vm.id, [None])]


def test_everything_available_can_be_asked(world: World, vm: Vm) -> None:
    offered = world.call("hosting.metric.available")
    assert {"vif.bytes.all", "vbd.bytes.all", "vcpu.time.all"} <= {one["query"] for one in offered}
    for one in offered:
        for unit in one["units"]:
            for function in one["functions"]:
                q = asked(vm, query=one["query"], sampler={"unit": unit, "value": 1, "function": function})
                answer = world.call("hosting.metric.query", q)
                assert [series["direction"][0] for series in answer] == one["direction"]
                assert all(series["points"] for series in answer)


@pytest.mark.parametrize(
    ("changes", "code", "named"),
    [
        ({"query": "vif.bytes"}, 501237, "query"),
        ({"query": "cpu.all"}, 501237, "query"),
        ({"query": 3}, 501210, "query"),
        ({"resource_type": "paas"}, 501237, "resource_type"),
        ({"resource_id": []}, 501437, "resource_id"),
        ({"resource_id": ["1"]}, 501010, "resource_id"),
        ({"sampler": {"unit": "weeks"}}, 501237, "sampler.unit"),
        ({"sampler": {"function": "median"}}, 501237, "sampler.function"),
        ({"sampler": {"value": 0}}, 501037, "sampler.value"),
        ({"sampler": {"value": "1"}}, 501010, "sampler.value"),
        ({"sampler": {"offset": 1}}, 501537, "offset"),
        ({"start": "yesterday"}, 501320, "start"),
        ({"end": "2026-13-01 00:00:00"}, 501320, "end"),
        ({"end": "2001-01-01 00:00:00"}, 501337, "end"),
        ({"start": text(END)}, 501337, "end"),
        ({"start": "1970-01-01 00:00:00"}, 501037, "sampler"),
        ({"until": 1}, 501537, "until"),
    ],
)
def test_refusals_name_the_field(
    world: World, vm: Vm, changes: dict[str, Any], code: int, named: str
) -> None:
    fault = world.fault("hosting.metric.query", asked(vm, **changes))
    assert (fault.code, named in fault.text) == (code, True), fault.text


def test_the_number_of_points_is_bounded_over_all_vms(world: World, vm: Vm) -> None:
    other = world.vm("other")
    day: dict[str, Any] = {"start": text(END - 86400 * 6), "sampler": {"value": 1}}
    assert len(world.call("hosting.metric.query", asked(vm, **day))[0]["points"]) == 6 * 24 * 60
    fault = world.fault("hosting.metric.query", asked(vm, **day, resource_id=[vm.id, other.id]))
    assert "more than 20000" in fault.text


def test_somebody_elses_vm_does_not_exist(world: World, vm: Vm) -> None:
    foreign = world.vm("foreign", key=BOB)
    absent = foreign.id + 1000
    faults = [
        world.fault("hosting.metric.query", asked(vm, resource_id=[vm.id, one]))
        for one in (foreign.id, absent)
    ]
    assert [fault.code for fault in faults] == [530242, 530242]
    assert faults[0].text.replace(str(foreign.id), "?") == faults[1].text.replace(str(absent), "?")
    world.change(vm, state="deleted")
    assert world.fault("hosting.metric.query", asked(vm), key=ALICE).code == 530242
