"""``hosting.metric.*``: what virtual machines used, as numbers.

A query is ``METRIC.DIRECTION`` or ``METRIC.all``. Values are a second's: bytes, requests, packets, seconds of
processor; for the memory they are bytes. With the function ``sum`` a point has the total of its interval.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Annotated, cast, get_args

from pydantic import AfterValidator, Field
from sqlalchemy import select

from api.methods.call import Call, Struct
from api.methods.faults import Cause, Object, refuse
from api.methods.ids import VmIds
from api.methods.lookup import own
from api.methods.parameters import Date, Int, Parameters, Text, invalid
from api.methods.sampling import Function, sampled
from api.methods.table import method
from api.store.metrics import QUERIES
from api.store.models import Iface, Vm
from api.store.statistics import Point, together

_UNITS = {"minutes": 60, "hours": 3600, "days": 86400}
_FUNCTIONS = get_args(Function)
_MOST_POINTS = 20000

# what one series of an answer is about: the VM, the direction, the type of the network or none
_Key = tuple[int, str, str]


def _one_of(choices: Iterable[str]) -> AfterValidator:
    known = tuple(choices)

    def check(value: str) -> str:
        if value not in known:
            raise invalid(Object.STRING, Cause.BADPARAMETER, f"use one of {', '.join(known)}")
        return value

    return AfterValidator(check)


class Sampler(Parameters):
    """The intervals of the answer: `value` times `unit`, and what is said of each: `function`."""

    unit: Annotated[Text, _one_of(_UNITS)]
    value: Annotated[Int, Field(ge=1)]
    function: Annotated[Text, _one_of(_FUNCTIONS)]


class MetricQuery(Parameters):
    """What is asked: `query` of the VMs `resource_id`, from `start` to `end`, both in UTC."""

    start: Date
    end: Date
    query: Annotated[Text, _one_of(QUERIES)]
    resource_id: Annotated[VmIds, Field(min_length=1)]
    resource_type: Annotated[Text, _one_of(("vm",))]
    sampler: Sampler


@method("hosting.metric.available", "array", changes=False)
def available(_call: Call) -> list[Struct]:
    """List what hosting.metric.query can be asked, and what its sampler may be."""
    return [
        {
            "direction": list(directions),
            "functions": list(_FUNCTIONS),
            "metric": metric,
            "query": name,
            "resource_type": "vm",
            "units": list(_UNITS),
        }
        for name, (metric, directions) in sorted(QUERIES.items())
    ]


@method("hosting.metric.query", "array", changes=False)
def query(call: Call, q: MetricQuery) -> list[Struct]:
    """Get what virtual machines used: a series for each VM and direction, and for each type of network.

    A point without `value` is one of which nothing is known: the VM did not run, or it is too long ago.
    """
    metric, directions = QUERIES[q.query]
    vm_ids = list(dict.fromkeys(q.resource_id))
    step = _UNITS[q.sampler.unit] * q.sampler.value
    start, count = _intervals(q, step, len(vm_ids) * len(directions))
    found = _found(call, vm_ids, metric, start, start + step * count)
    function = cast(Function, q.sampler.function)
    return [
        {
            "direction": [direction],
            "metric": metric,
            "points": [
                {"timestamp": _written(start + step * number)} | ({} if value is None else {"value": value})
                for number, value in enumerate(
                    sampled(together(found[vm_id, direction, kind]), start, step, count, function)
                )
            ],
            "resource_id": vm_id,
            "resource_type": "vm",
        }
        | ({"type": [kind]} if kind else {})
        for vm_id in vm_ids
        for kind in _types(vm_id, metric, found)
        for direction in directions
    ]


def _intervals(q: MetricQuery, step: int, series: int) -> tuple[int, int]:
    """Where the first interval begins, in seconds since 1970, and how many there are."""
    start, end = (int(moment.replace(tzinfo=UTC).timestamp()) for moment in (q.start, q.end))
    if end <= start:
        raise refuse(Object.DATE, Cause.BADPARAMETER, "end: it is not after start", "end")
    count = -(-(end - start) // step)
    if count * series > _MOST_POINTS:
        raise refuse(
            Object.INTEGER,
            Cause.BADPARAMETER,
            f"sampler: the answer would have {count * series} points, more than {_MOST_POINTS}: "
            "take longer intervals or fewer VMs",
            "sampler",
        )
    return start, count


def _found(
    call: Call, vm_ids: Collection[int], metric: str, start: int, end: int
) -> dict[_Key, list[list[Point]]]:
    """What is known of the caller's VMs; raises the NOTFOUND fault."""
    with call.store.reading() as session:
        for vm_id in vm_ids:
            own(session, call, Vm, vm_id)
        on_vlans = select(Iface.id).where(Iface.account_id == call.account.id, Iface.vlan_id.is_not(None))
        private = set(session.scalars(on_vlans))
    found: dict[_Key, list[list[Point]]] = defaultdict(list)
    for source, points in call.services.statistics.read(vm_ids, metric, start, end).items():
        kind = ("private" if source.object_id in private else "public") if _has_types(metric) else ""
        found[source.vm_id, source.direction, kind].append(points)
    return found


def _types(vm_id: int, metric: str, found: Collection[_Key]) -> list[str]:
    if not _has_types(metric):
        return [""]
    has_private = any(key[0] == vm_id and key[2] == "private" for key in found)
    return ["public", "private"] if has_private else ["public"]


def _has_types(metric: str) -> bool:
    return metric.startswith("vif.")


def _written(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%S}"
