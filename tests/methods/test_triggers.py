"""Triggers: how they are shown, when they are raised, and what becomes of them."""

from typing import Any

import pytest

from api.operations import create, triggers
from api.store.metrics import QUERIES
from api.store.models import Disk, Iface, Vm, VmTrigger
from api.store.statistics import Point, Source
from tests.methods.world import BOB, World

BEGIN = 1_800_000_000
ROUND = 60
PATIENCE = 150.0  # of statistics that are taken each minute


class Clock:
    """The time as a test wants it."""

    def __init__(self) -> None:
        self.now = float(BEGIN)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(world: World) -> Clock:
    world.clock = clock = Clock()
    return clock


@pytest.fixture
def vm(world: World) -> Vm:
    return world.vm("web1.example.net", cores=2, state="running")


@pytest.fixture
def disks(world: World, vm: Vm) -> list[Disk]:
    return [world.disk(f"disk-{position}", vm_id=vm.id, position=position) for position in (0, 1)]


@pytest.fixture
def ifaces(world: World, vm: Vm) -> list[Iface]:
    return [world.iface(vm_id=vm.id, num=num, state="used") for num in (0, 1)]


def watch(world: World, vm: Vm, datasource: str = "vcpu.time.used", **values: Any) -> VmTrigger:
    """A trigger of the VM, on its first device and after three rounds unless otherwise said."""
    given = {"device_number": 0, "duration": 180, "recovery_duration": 120} | values
    made = VmTrigger(
        vm_id=vm.id, datasource=datasource, device_type=triggers.DATASOURCES[datasource], **given
    )
    world.add(made)
    return made


def rounds(world: World, clock: Clock, source: Source, *values: float | None) -> None:
    """Let a minute pass for each of the values; None is a round that told nothing."""
    for value in values:
        clock.now += ROUND
        if value is not None:
            world.statistics.add([(source, Point(int(clock.now), ROUND, value))])


def statuses(world: World, vm: Vm) -> dict[str, str]:
    return {one["name"]: one["status"] for one in world.call("hosting.vm.info", vm.id)["probes"]}


# how they are shown


def test_every_field_is_shown(world: World, vm: Vm) -> None:
    whole = watch(world, vm, "vif.bytes.in", device_number=1, min_value=10, max_value=500, duration=600)
    assert world.call("hosting.vm.info", vm.id)["triggers"] == [
        {
            "datasource": "vif.bytes.in",
            "date_created": whole.date_created,
            "device_number": 1,
            "device_type": "iface",
            "duration": 600,
            "id": whole.id,
            "max_value": 500,
            "min_value": 10,
            "recovery_duration": 120,
            "vm_id": vm.id,
        }
    ]


def test_a_bound_that_there_is_not_is_the_end_of_the_values(world: World, vm: Vm) -> None:
    watch(world, vm, max_value=90)
    watch(world, vm, min_value=1)
    shown = world.call("vm.info", vm.id)["triggers"]
    assert [(one["min_value"], one["max_value"]) for one in shown] == [(0, 90), (1, 2**31 - 1)]


def test_each_vm_shows_its_own_once(world: World, vm: Vm, disks: list[Disk], ifaces: list[Iface]) -> None:
    other = world.vm("other", key=BOB)
    made = [watch(world, vm, max_value=number) for number in (1, 2, 3)]
    watch(world, other, max_value=4)
    shown = world.call("hosting.vm.info", vm.id)
    assert [one["id"] for one in shown["triggers"]] == [one.id for one in made]
    assert shown["disks_id"] == [one.id for one in disks]
    assert shown["ifaces_id"] == [one.id for one in ifaces]
    assert "triggers" not in world.call("hosting.vm.list")[0]


def test_all_but_the_memory_can_be_watched() -> None:
    assert {query for query in QUERIES if not query.startswith("vram.")} == set(triggers.DATASOURCES)


# when they are raised


def trigger(**values: Any) -> VmTrigger:
    given = {"min_value": None, "max_value": 10, "duration": 180, "recovery_duration": 120} | values
    return VmTrigger(**given)


def line(*values: float | None) -> list[Point]:
    """A sample for each minute; None where there is none."""
    return [
        Point(BEGIN + ROUND * number, ROUND, value)
        for number, value in enumerate(values, 1)
        if value is not None
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], False),
        ([5, 5, 5], False),
        ([11, 11], False),
        ([11, 11, 11], True),
        ([5, 11, 11, 11], True),
        ([11, 11, 5, 11, 11], False),
        # the bound itself is well
        ([10, 10, 10, 10], False),
        # it stays until it was within for two rounds
        ([11, 11, 11, 5], True),
        ([11, 11, 11, 5, 5], False),
        ([11, 11, 11, 5, 11, 5, 11, 5], True),
        ([11, 11, 11, 5, 5, 11, 11], False),
        ([11, 11, 11, 5, 5, 11, 11, 11], True),
        # one round or two that are missing are late, three are the end of what is known
        ([11, None, 11], True),
        ([11, 11, None, None, 11], True),
        ([11, 11, None, None, None, 11], False),
        ([11, 11, 11, None, None, None, 5], False),
    ],
)
def test_outside_for_the_duration(values: list[float | None], expected: bool) -> None:
    now = BEGIN + ROUND * len(values)
    assert triggers.is_raised(trigger(), line(*values), now, PATIENCE) is expected


@pytest.mark.parametrize(
    ("bounds", "value", "expected"),
    [
        ({"min_value": 3}, 2.9, True),
        ({"min_value": 3}, 3.0, False),
        ({"min_value": 3}, 10.1, True),
        ({"min_value": 3, "max_value": None}, 1e12, False),
        ({"max_value": None, "min_value": 3}, 0.0, True),
        ({"max_value": 0}, 0.1, True),
        ({"max_value": 0}, 0.0, False),
    ],
)
def test_bounds(bounds: dict[str, int | None], value: float, expected: bool) -> None:
    assert triggers.is_raised(trigger(**bounds), line(value, value, value), BEGIN + 180, PATIENCE) is expected


def test_below_and_above_are_both_outside() -> None:
    assert triggers.is_raised(trigger(min_value=3), line(1, 11, 1), BEGIN + 180, PATIENCE)


def test_without_a_duration_one_sample_is_enough() -> None:
    hasty = trigger(duration=0, recovery_duration=0)
    assert triggers.is_raised(hasty, line(5, 11), BEGIN + 120, PATIENCE)
    assert not triggers.is_raised(hasty, line(11, 5), BEGIN + 120, PATIENCE)


def test_it_is_known_until_the_samples_are_stale() -> None:
    last = BEGIN + 180
    assert triggers.is_raised(trigger(), line(11, 11, 11), last + 150, PATIENCE)
    assert not triggers.is_raised(trigger(), line(11, 11, 11), last + 151, PATIENCE)


def test_rounds_that_come_a_little_early_count() -> None:
    early = [Point(one.at, 59.996, one.value) for one in line(11, 11, 11)]
    assert triggers.is_raised(trigger(), early, BEGIN + 180, PATIENCE)


# the probes of their devices


def test_the_alert_of_the_processors_comes_and_goes(world: World, vm: Vm, clock: Clock) -> None:
    watch(world, vm, max_value=90)
    both = [Source(vm.id, "vcpu.time", number, "used") for number in (0, 1)]
    seen = []
    # together 80 and 100 percent of one processor
    for value in (0.4, 0.5, 0.5, 0.5, 0.4, 0.4):
        clock.now += ROUND
        world.statistics.add([(source, Point(int(clock.now), ROUND, value)) for source in both])
        seen.append(statuses(world, vm)["cpu"])
    assert seen == ["active", "active", "active", "alert", "alert", "active"]


@pytest.mark.parametrize("number", [0, 1])
def test_only_the_probe_of_the_device_is_in_alert(
    world: World, vm: Vm, disks: list[Disk], ifaces: list[Iface], clock: Clock, number: int
) -> None:
    watch(world, vm, "vbd.requests.all", device_number=number, max_value=7)
    watch(world, vm, "vif.packets.out", device_number=number, min_value=2)
    start = clock.now
    for disk in disks:
        for metric in ("vbd.requests", "vbd.bytes"):
            for direction in ("read", "write"):
                clock.now = start
                # each direction alone is within the bounds
                rounds(world, clock, Source(vm.id, metric, disk.id, direction), 4, 4, 4)
    for iface in ifaces:
        for metric in ("vif.packets", "vif.bytes"):
            for direction, value in (("in", 9), ("out", 1)):
                clock.now = start
                rounds(world, clock, Source(vm.id, metric, iface.id, direction), value, value, value)
    raised = {f"disk-{disks[number].id}", f"iface-{ifaces[number].id}"}
    assert {name for name, status in statuses(world, vm).items() if status == "alert"} == raised
    assert [status for name, status in statuses(world, vm).items() if name not in raised] == [
        "inactive", "active", "active",
    ]  # fmt: skip


def test_a_direction_that_is_not_watched_raises_nothing(
    world: World, vm: Vm, ifaces: list[Iface], clock: Clock
) -> None:
    watch(world, vm, "vif.bytes.in", max_value=10)
    first = ifaces[0].id
    rounds(world, clock, Source(vm.id, "vif.bytes", first, "out"), 99, 99, 99, 99)
    assert statuses(world, vm)[f"iface-{first}"] == "active"
    rounds(world, clock, Source(vm.id, "vif.bytes", first, "in"), 99, 99, 99)
    assert statuses(world, vm)[f"iface-{first}"] == "alert"


def test_a_machine_that_stopped_is_not_in_alert(world: World, vm: Vm, clock: Clock) -> None:
    watch(world, vm, max_value=90)
    source = Source(vm.id, "vcpu.time", 0, "used")
    rounds(world, clock, source, 1.0, 1.0, 1.0)
    assert statuses(world, vm)["cpu"] == "alert"
    rounds(world, clock, source, None, None, None)
    assert statuses(world, vm)["cpu"] == "inactive"


def test_the_longest_duration_can_be_reached(world: World, vm: Vm, clock: Clock) -> None:
    watch(world, vm, max_value=90, duration=triggers.LONGEST)
    source = Source(vm.id, "vcpu.time", 0, "used")
    # as many as are kept and more, so that older ones are averages
    rounds(world, clock, source, *[0.0] * 90, *[1.0] * 59)
    assert statuses(world, vm)["cpu"] == "active"
    rounds(world, clock, source, 1.0)
    assert statuses(world, vm)["cpu"] == "alert"
    rounds(world, clock, source, *[1.0] * 90)
    assert statuses(world, vm)["cpu"] == "alert"


def test_a_detached_device_is_watched_again_when_another_is_there(
    world: World, vm: Vm, disks: list[Disk], clock: Clock
) -> None:
    watch(world, vm, "vbd.bytes.all", device_number=1, max_value=10)
    rounds(world, clock, Source(vm.id, "vbd.bytes", disks[1].id, "read"), 99, 99, 99)
    assert statuses(world, vm)[f"disk-{disks[1].id}"] == "alert"
    world.change(disks[1], vm_id=None, position=None)
    assert "alert" not in statuses(world, vm).values()
    other = world.disk("other", vm_id=vm.id, position=1)
    rounds(world, clock, Source(vm.id, "vbd.bytes", other.id, "write"), 99, 99, 99)
    assert statuses(world, vm)[f"disk-{other.id}"] == "alert"


# what becomes of them


def test_a_deleted_machine_takes_its_triggers_along(world: World, vm: Vm) -> None:
    other = world.vm("other")
    gone, kept = watch(world, vm, max_value=1), watch(world, other, max_value=1)
    with world.store.writing() as session:
        create.deleted(session, vm.id, None, None)
    assert world.call("hosting.vm.info", vm.id)["triggers"] == []
    assert world.get(VmTrigger, gone.id) is None
    assert world.get(VmTrigger, kept.id).vm_id == other.id
