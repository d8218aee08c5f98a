"""From counters to rates: what is a line, and where one ends."""

from typing import Any

import pytest

from api.operations.sampler import Rates
from api.store.statistics import Point, Source
from hypervisor.domain.counters import DiskCounters, DomainCounters, InterfaceCounters

VM = 5
USED = Source(VM, "vcpu.time", 0, "used")
READ, WRITE = Source(VM, "vbd.bytes", 17, "read"), Source(VM, "vbd.bytes", 17, "write")
IN, OUT = Source(VM, "vif.bytes", 3, "in"), Source(VM, "vif.bytes", 3, "out")


def counters(run: int = 1, scale: int = 1, **values: Any) -> DomainCounters:
    given: dict[str, Any] = {
        "answered": True,
        "vcpus": {0: 500_000_000 * scale},
        "memory": 256 * 2**20,
        "memory_used": None,
        "disks": (DiskCounters("ua-disk-17", 1000 * scale, 2000 * scale, scale, scale),),
        "interfaces": (InterfaceCounters("ua-iface-3", 300 * scale, 400 * scale, scale, scale),),
    }
    return DomainCounters(uuid="u", run=run, **{**given, **values})


@pytest.fixture
def rates() -> Rates:
    return Rates(every=60)


def take(rates: Rates, at: float, given: DomainCounters) -> dict[Source, Point]:
    return dict(rates.take(at, VM, given))


def counted(points: dict[Source, Point]) -> dict[Source, Point]:
    return {source: point for source, point in points.items() if source.metric != "vram.bytes"}


def test_the_first_sample_is_no_rate(rates: Rates) -> None:
    first = take(rates, 1000, counters())
    assert counted(first) == {}
    assert first == {Source(VM, "vram.bytes", 0, "given"): Point(1000, 60, 256 * 2**20)}


def test_rates_are_a_seconds(rates: Rates) -> None:
    take(rates, 1000, counters(scale=1))
    found = take(rates, 1050, counters(scale=2, memory_used=2**20))
    assert found[USED] == Point(1050, 50, 0.01)
    assert (found[READ].value, found[WRITE].value) == (20, 40)
    assert (found[IN].value, found[OUT].value) == (6, 8)
    assert found[Source(VM, "vram.bytes", 0, "used")].value == 2**20


def test_a_counter_that_went_back_begins_a_new_line(rates: Rates) -> None:
    take(rates, 1000, counters(scale=9))
    assert counted(take(rates, 1060, counters(scale=1))) == {}
    assert take(rates, 1120, counters(scale=2))[READ] == Point(1120, 60, 1000 / 60)


def test_only_the_counter_that_went_back_does(rates: Rates) -> None:
    take(rates, 1000, counters(scale=9))
    found = take(rates, 1060, counters(scale=10, interfaces=(InterfaceCounters("ua-iface-3", 0, 0, 0, 0),)))
    assert found[READ].value == 1000 / 60
    assert IN not in found


def test_a_new_start_begins_a_new_line_even_with_higher_counters(rates: Rates) -> None:
    take(rates, 1000, counters(run=1, scale=1))
    assert counted(take(rates, 1060, counters(run=2, scale=500))) == {}
    assert take(rates, 1120, counters(run=2, scale=501))[READ].value == 1000 / 60


def test_a_guest_whose_qemu_did_not_answer_goes_on_afterwards(rates: Rates) -> None:
    take(rates, 1000, counters(scale=1))
    silent = take(rates, 1060, counters(scale=2, answered=False, disks=()))
    assert READ not in silent
    assert silent[IN].value == 5
    assert take(rates, 1120, counters(scale=3))[READ] == Point(1120, 120, 2000 / 120)


def test_a_long_silence_ends_the_line(rates: Rates) -> None:
    take(rates, 1000, counters(scale=1))
    assert counted(take(rates, 1000 + 3 * 60 + 1, counters(scale=2))) == {}


@pytest.mark.parametrize("step", [0, -30])
def test_a_clock_that_stands_or_goes_back_makes_no_rate(rates: Rates, step: int) -> None:
    take(rates, 1000, counters(scale=1))
    assert counted(take(rates, 1000 + step, counters(scale=2))) == {}


def test_devices_that_are_not_of_the_records_are_left_out(rates: Rates) -> None:
    foreign = (DiskCounters("ua-seed", 1, 1, 1, 1), DiskCounters("virtio-disk0", 1, 1, 1, 1))
    take(rates, 1000, counters(disks=foreign))
    found = take(rates, 1060, counters(disks=foreign))
    assert not [source for source in found if source.metric.startswith("vbd.")]


def test_a_vm_that_is_forgotten_begins_anew(rates: Rates) -> None:
    take(rates, 1000, counters(scale=1))
    rates.forget({VM + 1})
    assert counted(take(rates, 1060, counters(scale=2))) == {}
