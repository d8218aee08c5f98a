"""What each answer about one machine has to be, worked out afterwards from what was accepted, and when.

A call meets the state that the machine has once everything accepted before is done, and the disks and
interfaces that the records say it has at the moment. While others are answered, or work is under way, either
of two answers is right.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from tests.service.client import Struct

OK = 0
_NOTFOUND, _STATE, _RUNNING = 530242, 530260, 530268
_ATTACHED = {"disk": 530439, "iface": 531739}
_NOT_ATTACHED = {"disk": 530498, "iface": 531798}
# said once more than in the service: what is judged must not be its own judge
_LEADS_TO = {
    "vm_create": "running",
    "vm_start": "running",
    "vm_reboot": "running",
    "vm_stop": "halted",
    "vm_delete": "deleted",
}
# dates are whole seconds
_SECOND = 1.0


@dataclass(frozen=True)
class Asked:
    """A call about the machine, and its answer: an operation, a state (hosting.vm.info), or a fault's code.

    Attributes:
        begun: when it was made, in seconds since the epoch.
        ended: when it was answered.
    """

    method: str
    begun: float
    ended: float
    answer: Any

    @property
    def accepted(self) -> bool:
        return isinstance(self.answer, dict)


@dataclass(frozen=True)
class _Work:
    """An operation that is done; it was under way at some time between `begun` and `ended`."""

    id: int
    type: str
    begun: float
    ended: float


V = TypeVar("V")
E = TypeVar("E", Asked, _Work)


class Account:
    """All that was asked of one machine, and the operations that came of it."""

    def __init__(self, asked: Sequence[Asked], operations: Sequence[Struct]) -> None:
        self._asked = asked
        self._accepted = sorted((one for one in asked if one.accepted), key=lambda one: int(one.answer["id"]))
        self._work = [
            _Work(one["id"], one["type"], _epoch(one["date_start"]), _epoch(one["date_updated"]) + _SECOND)
            for one in sorted(operations, key=lambda one: int(one["id"]))
        ]

    def wrong(self) -> Iterator[str]:
        """A sentence about each answer that is not right, and each operation that did not wait its turn."""
        for earlier, later in itertools.pairwise(self._work):
            if later.begun < earlier.ended - _SECOND:
                yield f"{later} began before {earlier} had ended"
        for one in self._asked:
            right = self._right(one)
            said = OK if one.accepted else one.answer
            if said not in right:
                yield f"{one} was answered with {said}, right is {right}"

    def _right(self, asked: Asked) -> set[int | str]:
        shown = self._recorded(asked, "running", _LEADS_TO)
        if asked.method == "hosting.vm.info":
            return {_NOTFOUND if state == "deleted" else state for state in shown}
        name = asked.method.rpartition(".")[2]
        kind = name.partition("_")[0]
        changes = {f"{kind}_attach": True, f"{kind}_detach": False, "vm_delete": False}
        attached = self._recorded(asked, False, changes)
        right: set[int | str] = {
            _answer(name, kind, state, there) for state in self._coming(asked) for there in attached
        }
        return right | {_NOTFOUND} if "deleted" in shown else right

    def _coming(self, asked: Asked) -> set[str]:
        """What state the machine was led to by what was accepted before `asked`."""
        leading = [one for one in self._accepted if one.answer["type"] in _LEADS_TO]
        if asked.accepted:
            # operations are numbered in the order of their acceptance
            before = [one for one in leading if one.answer["id"] < asked.answer["id"]]
            return {_LEADS_TO[before[-1].answer["type"]] if before else "running"}
        return _possible(asked, "running", leading, lambda one: _LEADS_TO[one.answer["type"]])

    def _recorded(self, asked: Asked, initial: V, changes: Mapping[str, V]) -> set[V]:
        """What the records could say meanwhile, when work of each type in `changes` makes them say so."""
        changing = [one for one in self._work if one.type in changes]
        return _possible(asked, initial, changing, lambda one: changes[one.type])


def _possible(asked: Asked, initial: V, events: Sequence[E], value: Callable[[E], V]) -> set[V]:
    """The values that `events`, in their order, could have left while `asked` was answered."""
    first = max((at + 1 for at, one in enumerate(events) if one.ended < asked.begun), default=0)
    last = min((at for at, one in enumerate(events) if one.begun > asked.ended), default=len(events))
    return set([initial, *map(value, events)][first : last + 1])


def _answer(name: str, kind: str, state: str, attached: bool) -> int:
    """What the method has to answer; `kind` is that of the device, when there is one."""
    if name == f"{kind}_detach" and not attached:
        return _NOT_ATTACHED[kind]
    if state == "deleted":
        return _STATE
    if name == f"{kind}_attach" and attached:
        return _ATTACHED[kind]
    if name in ("start", "delete") and state == "running":
        return _RUNNING
    if name in ("stop", "reboot") and state == "halted":
        return _STATE
    return OK


def _epoch(date: datetime) -> float:
    return date.replace(tzinfo=UTC).timestamp()
