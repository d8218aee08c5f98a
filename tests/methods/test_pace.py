"""How often a key may call, by a clock that the test turns."""

import threading
from dataclasses import replace

import pytest

from api.methods.dispatch import Dispatcher
from api.methods.faults import Fault
from api.methods.pace import Pace
from api.settings import Limits
from tests.methods.world import BOB, READER, UNKNOWN, World


class Clock:
    """Seconds that pass when it is told."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def test_a_burst_and_then_the_rate() -> None:
    clock = Clock()
    pace = Pace(10, 3, clock)
    assert [pace.wait(1) for _ in range(3)] == [0, 0, 0]
    assert pace.wait(1) == pytest.approx(0.1)
    clock.at += 0.05
    assert pace.wait(1) == pytest.approx(0.05)
    clock.at += 0.05
    assert pace.wait(1) == 0
    assert pace.wait(1) > 0
    clock.at += 60
    assert [pace.wait(1) > 0 for _ in range(4)] == [False, False, False, True]


def test_the_rate_holds_in_the_long_run() -> None:
    clock = Clock()
    pace = Pace(7, 5, clock)
    granted = 0
    for _ in range(10_000):
        granted += pace.wait(1) == 0
        clock.at += 0.01
    # a hundred seconds
    assert granted == pytest.approx(705, abs=1)


def test_who_waits_as_long_as_told_is_served() -> None:
    clock = Clock()
    pace = Pace(3, 1, clock)
    for _ in range(1000):
        assert pace.wait(1) == 0
        told = pace.wait(1)
        assert told > 0
        clock.at += told


def test_one_key_does_not_slow_another() -> None:
    pace = Pace(1, 1, Clock())
    assert (pace.wait(1), pace.wait(2)) == (0, 0)
    assert pace.wait(1) > 0


def test_without_a_rate_nothing_is_kept() -> None:
    pace = Pace(None, 1)
    assert not any(pace.wait(1) for _ in range(1000))
    assert len(pace) == 0


def test_memory_is_bounded_by_the_keys_of_the_last_moment() -> None:
    clock = Clock()
    pace = Pace(100, 10, clock)
    most = 0
    for key_id in range(100_000):
        assert pace.wait(key_id) == 0
        clock.at += 0.001
        most = max(most, len(pace))
    # ten of them are in the tenth of a second that anything is remembered
    assert most <= 1025


def test_threads_together_get_no_more() -> None:
    pace = Pace(0.001, 50)
    granted: list[bool] = []
    together = threading.Barrier(8)

    def ask() -> None:
        together.wait()
        for _ in range(100):
            granted.append(pace.wait(1) == 0)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(granted), len(granted)) == (50, 800)


@pytest.fixture
def slow(world: World) -> World:
    """A world that lets a key make two calls, and one more a second."""
    limits = Limits(requests_per_second=1, requests_burst=2)
    world.dispatch = Dispatcher(replace(world.services, limits=limits))
    return world


def test_a_key_that_calls_too_often_is_told_when_to_come_again(slow: World) -> None:
    for _ in range(2):
        slow.call("hosting.vm.list")
    fault = slow.fault("hosting.vm.list")
    assert fault.code == 501699
    assert "OBJECT_METHOD (CAUSE_TOOMANY) [too many requests with this API key: try again in " in fault.text
    seconds = float(fault.text.split("again in ")[1].split()[0])
    assert 0 < seconds <= 1
    # neither other keys of the account nor what needs none are slowed
    assert slow.call("hosting.vm.list", key=READER) == slow.call("hosting.vm.list", key=BOB) == []
    assert slow.call("version.info")


def test_keys_that_are_not_good_are_not_remembered(slow: World) -> None:
    for _ in range(5):
        assert slow.fault("hosting.vm.list", key=UNKNOWN).code == 510150
    with pytest.raises(Fault) as caught:
        slow.dispatch("hosting.vm.list", ["0" * 24], "192.0.2.1")
    assert caught.value.code == 510150


def test_a_refused_call_does_nothing(slow: World) -> None:
    spec = {"name": "lan", "datacenter_id": 1}
    slow.call("hosting.vm.list")
    slow.call("hosting.vm.list")
    assert slow.fault("hosting.vlan.create", spec).code == 501699
    assert slow.call("hosting.vlan.count", key=READER) == 0
