"""Each kind of work by itself, killed at each boundary that it has, one after the other."""

import random
import time
import xmlrpc.client
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from tests.faults import blows
from tests.faults.rounds import Plan, Result
from tests.faults.town import Town, Verdict
from tests.faults.workload import WORK, View, Workload, choose

_MOST = 20  # boundaries of one job; a wait that is repeated could go on for ever
_TRIES = 12
_LOOK = 0.1  # seconds

# what may make possible what is not; a machine does for what is not named
_BEFORE = {
    "create": ["delete"], "create on a disk": ["new disk", "delete"], "start": ["stop", "create"],
    "stop": ["start", "create"], "reboot": ["start", "create"], "delete": ["stop", "create"],
    "new disk": ["delete a disk"], "snapshot": ["new disk", "delete a disk"],
    "roll back": ["snapshot", "create"], "attach a disk": ["new disk", "create"],
    "detach a disk": ["attach a disk", "new disk", "create"], "new iface": ["delete an iface"],
    "delete an iface": ["new iface"], "plug an iface": ["new iface", "create"],
    "change an iface": ["new iface"], "delete a disk": ["new disk"], "change a disk": ["new disk"],
    "migrate what is detached": ["new disk"],
}  # fmt: skip


def swept() -> Iterator[Plan]:
    """A round for each kind of work and of boundary."""
    pairs = [f"{work}: {boundary}" for work in WORK for boundary in blows.BOUNDARIES]
    yield from (Plan(number, pair, 0) for number, pair in enumerate(pairs, start=1))


def play_sweep(town: Town, plan: Plan, seed: int) -> Result:
    """The work again and again, each time killed one boundary later, until it ends before."""
    result, begun = Result(plan.number, seed, plan.kind), time.monotonic()
    work, _, boundary = plan.kind.partition(": ")
    chance = random.Random(f"{seed}:{plan.kind}")
    before = max((one["id"] for one in town.records().operation), default=0)
    for number in range(1, _MOST):
        workload = Workload(town.service.client(), random.Random(chance.random()))
        assert _possible(town, workload, work), f"{work} was not possible"
        blows.arm(town.plan, boundary, number)
        workload.ask(1, work)
        said = _killed(town, workload)
        if said:
            town.service.start()
            result.blows.append(f"{number} {said}")
        found = Verdict(stuck=town.settle(workload))
        if not found:
            found = town.look(workload)
        result.lost, result.leaked, result.stuck = found.lost, found.leaked, found.stuck
        if found or not said:
            break
        town.stamp(chance)
    steps = Counter(one["step"] for one in town.records().operation if one["id"] > before)
    result.steps, result.seconds = dict(steps), time.monotonic() - begun
    return result


def _possible(town: Town, workload: Workload, work: str, depth: int = 3) -> bool:
    """Whether there is work of that kind to do, after what makes it possible has been done."""
    for _ in range(_TRIES):
        if choose(View.take(workload.client), workload.chance, work) is not None:
            return True
        before = _BEFORE.get(work, ["create"])
        order = workload.chance.sample(before, len(before))
        found = next((one for one in order if depth and _possible(town, workload, one, depth - 1)), None)
        if found is None:
            return False
        _do(workload, found)
        town.settle(workload)
        town.book.follow(town.records())
    return False


def _do(workload: Workload, kind: str) -> None:
    view = View.take(workload.client)
    if kind == "new disk":
        # empty, or of an image: a copy of any disk there is would seldom have a system
        view.disks.clear()
    call = choose(view, workload.chance, kind)
    with suppress(xmlrpc.client.Fault):
        if call is not None:
            workload.call(*call)


def _killed(town: Town, workload: Workload) -> str:
    """Where the service was killed; nothing when the work came to its end without meeting the boundary."""
    while town.service.runs() and town.records().claim:
        with suppress(OSError, xmlrpc.client.Error):
            workload.finish_moves()
        time.sleep(_LOOK)
    return blows.armed_killed(town.service, town.plan, _LOOK)
