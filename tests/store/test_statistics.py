"""Samples kept: how long, at which resolution, and what a damaged file costs."""

import logging
import sqlite3
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from api.store.statistics import Point, Source, Statistics

EVERY = 60
BEGIN = 1_800_000_000  # a multiple of 300
IN, OUT = Source(1, "vif.bytes", 7, "in"), Source(1, "vif.bytes", 7, "out")
OTHER = Source(2, "vif.bytes", 8, "in")


class Kept:
    """Statistics in a file, and the clock that they go by."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.now = float(BEGIN)
        self.open()

    def open(self) -> None:
        self.statistics = Statistics(self.file, EVERY, clock=lambda: self.now)

    def reopen(self) -> None:
        self.statistics.close()
        self.open()

    def sample(self, value: float, *sources: Source) -> None:
        """One more round, a minute later."""
        self.now += EVERY
        at = int(self.now)
        self.statistics.add([(source, Point(at, EVERY, value)) for source in sources or (IN,)])

    def read(self, start: float, source: Source = IN, *, fine: bool = False) -> list[Point]:
        found = self.statistics.read([source.vm_id], source.metric, start, self.now, fine=fine)
        return found.get(source, [])


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path / "statistics.db")
    yield kept
    kept.statistics.close()


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads that give way to each other all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_samples_of_several_hosts_at_once(kept: Kept) -> None:
    kept.now += EVERY
    at, hosts = int(kept.now), range(8)
    begin = threading.Barrier(len(hosts))

    def add(host: int) -> None:
        begin.wait()
        for vm_id in range(host * 100, host * 100 + 30):
            kept.statistics.add([(Source(vm_id, "vif.bytes", 1, "in"), Point(at, EVERY, 1.0))])

    with ThreadPoolExecutor(len(hosts)) as threads:
        list(threads.map(add, hosts))
    vms = [host * 100 + number for host in hosts for number in range(30)]
    assert len(kept.statistics.read(vms, "vif.bytes", BEGIN, kept.now)) == len(vms)
    assert [vm_id for vm_id in vms if not kept.statistics.fresh(vm_id)] == []


def test_samples_come_back_in_order(kept: Kept) -> None:
    for value in (1.0, 2.0, 3.0):
        kept.sample(value, IN, OUT, OTHER)
    assert [(one.at - BEGIN, one.value) for one in kept.read(BEGIN)] == [(60, 1.0), (120, 2.0), (180, 3.0)]
    assert [one.value for one in kept.read(BEGIN + 60)] == [2.0, 3.0]
    assert set(kept.statistics.read([1], "vif.bytes", BEGIN, kept.now)) == {IN, OUT}
    assert set(kept.statistics.read([1, 2], "vif.bytes", BEGIN, kept.now)) == {IN, OUT, OTHER}
    assert kept.statistics.read([1], "vbd.bytes", BEGIN, kept.now) == {}
    assert kept.statistics.read([], "vif.bytes", BEGIN, kept.now) == {}


def test_an_hour_of_samples_and_a_day_of_averages(kept: Kept) -> None:
    for minute in range(26 * 60):
        kept.sample(float(minute % 5))
    hour = kept.read(kept.now - 3600)
    assert len(hour) == 60
    assert {one.seconds for one in hour} == {60.0}
    day = kept.read(kept.now - 86400)
    # minutes 0, 1, 2, 3, 4 of every five
    assert {(one.seconds, one.value) for one in day} == {(300.0, 2.0)}
    assert len(day) == 288
    assert day[-1].at == kept.now
    with closing(sqlite3.connect(kept.file)) as file:
        by_step = dict(file.execute("SELECT step, count(*) FROM point GROUP BY step"))
    # what was due to go, goes every five minutes
    assert 70 <= by_step[0] <= 75
    assert 25 * 12 <= by_step[300] <= 25 * 12 + 1


def test_a_day_ends_with_the_samples_that_are_not_averaged_yet(kept: Kept) -> None:
    for minute in range(2 * 60 + 3):
        kept.sample(float(minute))
    day = kept.read(kept.now - 86400)
    assert [one.seconds for one in day[-4:]] == [300.0, 60.0, 60.0, 60.0]
    assert sum(one.seconds for one in day) == (2 * 60 + 3) * 60


def test_the_last_hour_of_a_day_can_be_had_in_samples(kept: Kept) -> None:
    for minute in range(2 * 60 + 3):
        kept.sample(float(minute))
    day = kept.read(kept.now - 86400, fine=True)
    assert [one.seconds for one in day[-60:]] == [60.0] * 60
    assert day[0].seconds == 300.0
    assert day[-1].value == 122.0
    assert sum(one.seconds for one in day) == (2 * 60 + 3) * 60


def test_an_average_weighs_by_time(kept: Kept) -> None:
    points = [Point(BEGIN + 100, 60, 10.0), Point(BEGIN + 200, 20, 50.0)]
    kept.statistics.add([(IN, one) for one in points])
    kept.now = BEGIN + 2 * 86400 / 24
    kept.statistics.add([])
    (average,) = kept.read(kept.now - 80000)
    assert (average.at, average.seconds, average.value) == (BEGIN + 300, 80.0, (600 + 1000) / 80)


def test_a_restart_goes_on_where_it_was(kept: Kept) -> None:
    for _ in range(12):
        kept.sample(1.0)
    kept.reopen()
    for _ in range(120):
        kept.sample(1.0)
    assert len(kept.read(kept.now - 3600)) == 60
    assert sum(one.seconds for one in kept.read(BEGIN)) == 132 * 60


def test_what_is_gone_is_forgotten(kept: Kept) -> None:
    kept.sample(1.0, IN, OTHER)
    for _ in range(26 * 60):
        kept.sample(1.0, OTHER)
    with closing(sqlite3.connect(kept.file)) as file:
        assert file.execute("SELECT vm_id FROM series").fetchall() == [(2,)]
    kept.sample(5.0, IN)
    assert [one.value for one in kept.read(kept.now - 3600)] == [5.0]


def test_fresh_is_what_the_last_rounds_saw(kept: Kept) -> None:
    kept.sample(1.0, IN, OTHER)
    assert kept.statistics.fresh(1) == {("vif.bytes", 7)}
    assert kept.statistics.fresh(3) == set()
    kept.now += 2 * EVERY
    assert kept.statistics.fresh(1) == {("vif.bytes", 7)}
    kept.now += EVERY
    assert kept.statistics.fresh(1) == set()


@pytest.mark.parametrize("content", [b"this is no database\n" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_made_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "statistics.db"
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        kept = Kept(file)
    assert "begin anew" in caplog.text
    kept.sample(1.0)
    assert len(kept.read(BEGIN)) == 1
    kept.statistics.close()


def test_a_file_of_another_version_is_made_anew(kept: Kept) -> None:
    kept.sample(1.0)
    kept.statistics.close()
    with closing(sqlite3.connect(kept.file)) as file:
        file.execute("PRAGMA user_version = 99")
    kept.open()
    assert kept.read(BEGIN) == []


def test_a_failed_round_does_not_spoil_the_next(kept: Kept) -> None:
    with pytest.raises(Exception, match="NOT NULL"):
        kept.statistics.add([(IN, Point(BEGIN, EVERY, float("nan")))])
    kept.sample(1.0)
    assert [one.value for one in kept.read(BEGIN)] == [1.0]


def test_the_file_is_its_owners_alone(kept: Kept) -> None:
    assert kept.file.stat().st_mode & 0o777 == 0o600
