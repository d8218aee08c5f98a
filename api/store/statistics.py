"""What the virtual machines used, in a database of its own: every sample for an hour, averages for a day.

Losing the last minute is nothing, and so is losing the file: one that cannot be read is made anew.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import and_, delete, func, insert, literal, or_, select
from sqlalchemy.orm import Session

from api.store.samples import POINT, SERIES, open_file

AVERAGED = 300
"""Seconds of which an average is kept for a day."""

_SAMPLES_KEPT = 70 * 60
_AVERAGES_KEPT = 25 * 3600
_FRESH = 2.5  # rounds


@dataclass(frozen=True, slots=True)
class Source:
    """What was measured: a metric (``vif.bytes``) of one of a VM's objects, in one direction (``in``).

    `object_id` is a disk's or an interface's id, a processor's number, 0 for the memory.
    """

    vm_id: int
    metric: str
    object_id: int
    direction: str


@dataclass(frozen=True, slots=True)
class Point:
    """`value` a second (or a mean level) over the `seconds` that ended `at`, in seconds since 1970."""

    at: int
    seconds: float
    value: float


class Statistics:
    """The samples; `every` is how often one comes, in seconds. One thread writes, any may read."""

    def __init__(self, file: Path, every: float, clock: Callable[[], float] = time.time) -> None:
        self.every = every
        self._clock = clock
        self._store = open_file(file)
        self._adding = threading.Lock()  # each host's samples come from a thread of its own
        self._ids: dict[Source, int] = {}
        # for each VM when its objects were sampled last: clients ask for it with every look at a VM
        self._sampled: dict[int, dict[tuple[str, int], int]] = {}
        with self._store.reading() as session:
            averaged = select(func.max(POINT.c.at)).where(POINT.c.step == AVERAGED)
            self._averaged_to: int = min(session.scalar(averaged) or 0, int(clock()))
            self._learn(session)
            latest = (
                select(SERIES.c.vm_id, SERIES.c.metric, SERIES.c.object_id, func.max(POINT.c.at))
                .join(POINT, POINT.c.series_id == SERIES.c.id)
                .where(POINT.c.step == 0, POINT.c.at >= self._fresh_from())
                .group_by(SERIES.c.vm_id, SERIES.c.metric, SERIES.c.object_id)
            )
            self._note((vm_id, metric, one, at) for vm_id, metric, one, at in session.execute(latest))

    @property
    def patience(self) -> float:
        """The seconds after which a silence is no late round any more."""
        return _FRESH * self.every

    def now(self) -> float:
        """The time by which samples are kept, in seconds since 1970."""
        return self._clock()

    def close(self) -> None:
        """Give the connections back."""
        self._store.close()

    def add(self, points: Iterable[tuple[Source, Point]]) -> None:
        """Keep samples; averages what is complete and forgets what is old, every five minutes."""
        given = list(points)
        with self._adding:
            try:
                self._add(given)
            except BaseException:
                self._ids = {}  # what was learned in a transaction that failed
                raise

    def _add(self, given: list[tuple[Source, Point]]) -> None:
        with self._store.writing() as session:
            new = {source for source, _ in given} - self._ids.keys()
            if new:
                session.execute(insert(SERIES).prefix_with("OR IGNORE"), [_columns(source) for source in new])
                self._learn(session)
            if given:
                rows = [
                    {"series_id": self._ids[source], "step": 0, "at": one.at, "seconds": one.seconds,
                     "value": one.value}
                    for source, one in given
                ]  # fmt: skip
                session.execute(insert(POINT).prefix_with("OR REPLACE"), rows)
            self._tidy(session)
        self._note((source.vm_id, source.metric, source.object_id, one.at) for source, one in given)

    def _note(self, sampled: Iterable[tuple[int, str, int, int]]) -> None:
        """Remember what was sampled when; what is no longer fresh is forgotten, each VM's at once."""
        by_vm: dict[int, dict[tuple[str, int], int]] = {}
        for vm_id, metric, object_id, at in sampled:
            by_vm.setdefault(vm_id, dict(self._sampled.get(vm_id, {})))[metric, object_id] = at
        fresh_from = self._fresh_from()
        kept = {
            vm_id: {what: at for what, at in found.items() if at >= fresh_from}
            for vm_id, found in {**self._sampled, **by_vm}.items()
        }
        # readers in other threads see the one or the other
        self._sampled = {vm_id: found for vm_id, found in kept.items() if found}

    def _fresh_from(self) -> float:
        return self._clock() - self.patience

    def _learn(self, session: Session) -> None:
        rows = session.execute(select(*SERIES.c))
        self._ids = {Source(row.vm_id, row.metric, row.object_id, row.direction): row.id for row in rows}

    def _tidy(self, session: Session) -> None:
        now = int(self._clock())
        complete = now // AVERAGED * AVERAGED
        if complete <= self._averaged_to:
            return
        end = (POINT.c.at + (AVERAGED - 1)) - (POINT.c.at + (AVERAGED - 1)) % AVERAGED
        covered = func.sum(POINT.c.seconds)
        averages = (
            select(
                POINT.c.series_id,
                literal(AVERAGED),
                end,
                covered,
                func.sum(POINT.c.value * POINT.c.seconds) / covered,
            )
            .where(POINT.c.step == 0, POINT.c.at > self._averaged_to, POINT.c.at <= complete)
            .group_by(POINT.c.series_id, end)
        )
        names = ["series_id", "step", "at", "seconds", "value"]
        session.execute(insert(POINT).prefix_with("OR REPLACE").from_select(names, averages))
        old = or_(
            and_(POINT.c.step == 0, POINT.c.at < now - _SAMPLES_KEPT),
            and_(POINT.c.step == AVERAGED, POINT.c.at < now - _AVERAGES_KEPT),
        )
        session.execute(delete(POINT).where(old))
        session.execute(delete(SERIES).where(SERIES.c.id.not_in(select(POINT.c.series_id))))
        self._learn(session)
        self._averaged_to = complete

    def read(
        self, vm_ids: Collection[int], metric: str, start: float, end: float, *, fine: bool = True
    ) -> dict[Source, list[Point]]:
        """What is known of the VMs in that time, oldest first: samples, and averages for what is older.

        Not `fine`, a time that began when there are no samples any more has averages wherever it can.
        """
        samples_from = 0
        if start < self._clock() - _SAMPLES_KEPT:
            hour_ago = int(self._clock() - 3600) // AVERAGED * AVERAGED
            samples_from = min(self._averaged_to, hour_ago) if fine else self._averaged_to
        query = (
            select(*SERIES.c, *POINT.c)
            .join(POINT, POINT.c.series_id == SERIES.c.id)
            .where(
                SERIES.c.vm_id.in_(vm_ids),
                SERIES.c.metric == metric,
                POINT.c.at > start,
                POINT.c.at - POINT.c.seconds < end,
                or_(
                    and_(POINT.c.step == 0, POINT.c.at > samples_from),
                    and_(POINT.c.step == AVERAGED, POINT.c.at <= samples_from),
                ),
            )
            .order_by(SERIES.c.object_id, SERIES.c.direction, POINT.c.at)
        )
        found: dict[Source, list[Point]] = {}
        with self._store.reading() as session:
            for row in session.execute(query):
                source = Source(row.vm_id, row.metric, row.object_id, row.direction)
                found.setdefault(source, []).append(Point(row.at, row.seconds, row.value))
        return found

    def fresh(self, vm_id: int) -> set[tuple[str, int]]:
        """The metrics and objects of the VM that were sampled in the last rounds."""
        fresh_from = self._fresh_from()
        return {what for what, at in self._sampled.get(vm_id, {}).items() if at >= fresh_from}


def together(lines: Iterable[Iterable[Point]]) -> list[Point]:
    """The sum of lines that were measured at the same times."""
    sums: dict[int, Point] = {}
    for line in lines:
        for one in line:
            known = sums.get(one.at)
            if known is not None:
                one = Point(one.at, max(one.seconds, known.seconds), one.value + known.value)
            sums[one.at] = one
    return [sums[at] for at in sorted(sums)]


def _columns(source: Source) -> dict[str, object]:
    return {
        "vm_id": source.vm_id,
        "metric": source.metric,
        "object_id": source.object_id,
        "direction": source.direction,
    }
