"""Triggers: whether what a virtual machine uses has left the bounds that an administrator set.

Nothing of that is stored: the samples of the last hour tell it whenever it is asked.
"""

from collections.abc import Container, Iterable, Mapping

from sqlalchemy import delete
from sqlalchemy.orm import Session

from api.store.metrics import QUERIES
from api.store.models import Vm, VmTrigger
from api.store.statistics import Point, Statistics, together

LONGEST = 3600
"""The most seconds that a trigger may wait: as long as samples are kept for certain."""

# the last sample may be a round old, and a round takes 300 seconds at most
_LOOKBACK = LONGEST + 300
_DEVICE_TYPES = {"vbd": "disk", "vcpu": "cpu", "vif": "iface"}

DATASOURCES: Mapping[str, str] = {
    query: _DEVICE_TYPES[query.partition(".")[0]]
    for query in sorted(QUERIES)
    if query.partition(".")[0] in _DEVICE_TYPES
}
"""What a trigger may watch, and the type of device that it is about. Bounds are a second's; those of
``vcpu.time`` are percent of one processor."""

# of the processors, those too that leave with the next start
_EVERY = range(2**31)
_PERCENT = {"vcpu.time": 100.0}


def devices(vm: Vm, device_type: str) -> Mapping[int, Container[int]]:
    """The numbers that the VM's devices of a type have, and by which ids each is sampled.

    A disk's number is its position, an interface's its `num`; the processors are one device, number 0.
    """
    if device_type == "disk":
        return {disk.position: {disk.id} for disk in vm.disks if disk.position is not None}
    if device_type == "iface":
        return {iface.num: {iface.id} for iface in vm.ifaces if iface.num is not None}
    return {0: _EVERY}


def raised(vm: Vm, statistics: Statistics, now: float) -> list[VmTrigger]:
    """The VM's triggers that are raised `now`, in seconds since 1970."""
    return [
        trigger
        for trigger in vm.triggers
        if is_raised(trigger, _line(vm, trigger, statistics, now), now, statistics.patience)
    ]


def is_raised(trigger: VmTrigger, line: Iterable[Point], now: float, patience: float) -> bool:
    """Whether the samples in `line`, oldest first, leave the trigger raised.

    It is raised once they were outside its bounds for `duration` seconds on end, and comes down once they
    were within for `recovery_duration`. After a silence of more than `patience` seconds nothing is known.
    """
    up, side = False, None
    since = last = float("-inf")
    for one in line:
        # samples carry whole seconds, rounds come within milliseconds of them
        began = one.at - round(one.seconds)
        outside = not _within(trigger, one.value)
        if began - last > patience:
            up, side = False, None
        if outside is not side:
            since, side = began, outside
        last = one.at
        if last - since >= (trigger.duration if outside else trigger.recovery_duration):
            up = outside
    return up and now - last <= patience


def _within(trigger: VmTrigger, value: float) -> bool:
    lowest, highest = trigger.min_value, trigger.max_value
    return (lowest is None or value >= lowest) and (highest is None or value <= highest)


def _line(vm: Vm, trigger: VmTrigger, statistics: Statistics, now: float) -> list[Point]:
    metric, directions = QUERIES[trigger.datasource]
    ids = devices(vm, trigger.device_type).get(trigger.device_number, ())
    found = statistics.read([vm.id], metric, now - _LOOKBACK, now)
    factor = _PERCENT.get(metric, 1.0)
    return [
        Point(one.at, one.seconds, one.value * factor)
        for one in together(
            points
            for source, points in found.items()
            if source.direction in directions and source.object_id in ids
        )
    ]


def forget(session: Session, vm_id: int) -> None:
    """Remove the triggers of a VM that goes."""
    session.execute(delete(VmTrigger).where(VmTrigger.vm_id == vm_id))
