"""A few faults with a fixed seed; `make faults` is as many as are asked for."""

import pytest

from tests.faults.rounds import Plan, play
from tests.faults.town import Town

pytestmark = pytest.mark.guest

SEED = 3
ROUNDS = (Plan(1, "service", 2), Plan(2, "libvirtd", 1), Plan(3, "full", 1))


@pytest.mark.parametrize("plan", ROUNDS, ids=lambda one: f"{one.number}-{one.kind}")
def test_nothing_is_lost(town: Town, plan: Plan) -> None:
    result = play(town, plan, SEED)
    print(result)
    assert result.clean, f"{result}\n{result.found}"
