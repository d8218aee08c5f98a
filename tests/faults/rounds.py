"""Rounds: work, a fault in the middle of it, and a look at what became of everything."""

import random
import threading
import time
import xmlrpc.client
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import blows
from tests.faults.town import Town, Verdict
from tests.faults.workload import Workload

_CALLS = (3, 8)  # in a round
_MOST_BLOWS = 3
_MOST_BOUNDARIES = 12
# bytes left in a full file system, at most
_LEFT = 32 * 1024
# how long a file system stays full, in seconds
_FULL = 3.0


@dataclass(frozen=True)
class Plan:
    """What a round is: its number, the kind of fault, and how often it strikes."""

    number: int
    kind: str
    blows: int


def planned(seed: int, counts: dict[str, int]) -> Iterator[Plan]:
    """The rounds that make up that many faults of each kind, mixed."""
    chance, left, number = random.Random(seed), Counter(counts), 0
    while kinds := [kind for kind in counts if left[kind] > 0]:
        number += 1
        kind = chance.choices(kinds, [left[one] for one in kinds])[0]
        strikes = 1 if kind == "full" else min(left[kind], chance.randint(1, _MOST_BLOWS))
        left[kind] -= strikes
        yield Plan(number, kind, strikes)


@dataclass
class Result:
    """What became of a round."""

    number: int
    seed: int
    kind: str
    blows: list[str] = field(default_factory=list)
    steps: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    lost: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether nothing is lost, leaked or stuck."""
        return not (self.lost or self.leaked or self.stuck)

    @property
    def found(self) -> str:
        """What is not as it must be."""
        return str(Verdict(self.lost, self.leaked, self.stuck))

    def as_dict(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)

    def __str__(self) -> str:
        steps = " ".join(f"{count} {step}" for step, count in sorted(self.steps.items())) or "nothing"
        ends = f"lost {len(self.lost)} leaked {len(self.leaked)} stuck {len(self.stuck)}"
        what = "; ".join(self.blows)
        return (
            f"{self.number:5d} seed {self.seed} {self.kind}: {what} | {steps} | {ends} | {self.seconds:.1f} s"
        )


def play(town: Town, plan: Plan, seed: int) -> Result:
    """One round."""
    result, begun = Result(plan.number, seed, plan.kind), time.monotonic()
    chance = random.Random(f"{seed}:{plan.number}")
    before = max((one["id"] for one in town.records().operation), default=0)
    workload = Workload(town.service.client(), random.Random(chance.random()))
    for _ in range(plan.blows):
        result.blows.append(_strike(town, plan.kind, workload, chance))
    stuck = town.settle(workload)
    with suppress(OSError, xmlrpc.client.Error):
        town.wake()
    found = Verdict(stuck=stuck) if stuck else town.look(workload)
    records = town.records()
    mine = [one for one in records.operation if one["id"] > before]
    result.steps = dict(Counter(one["step"] for one in mine))
    result.errors = [f"{one['type']}: {one['last_error']}" for one in mine if one["step"] == "ERROR"]
    result.lost, result.leaked, result.stuck = found.lost, found.leaked, found.stuck
    result.refused = workload.refused
    if result.clean:
        town.stamp(chance)
    result.seconds = time.monotonic() - begun
    return result


def _strike(town: Town, kind: str, workload: Workload, chance: random.Random) -> str:
    """Work, and the fault; the service runs again afterwards."""
    service = town.service
    workload.client = service.client()
    calls = chance.randint(*_CALLS)
    asking = threading.Thread(target=workload.ask, args=(calls,), name="workload")
    if kind == "service" and chance.random() < 0.5:
        boundary, number = chance.choice(blows.BOUNDARIES), chance.randint(1, _MOST_BOUNDARIES)
        blows.arm(town.plan, boundary, number)
        asking.start()
        said = blows.armed_killed(service, town.plan)
        where = f"service at {said} ({number})" if said else f"no {boundary} {number}: service then"
        if not said:
            service.kill()
        service.start()
        asking.join()
        return where
    asking.start()
    if kind == "libvirtd":
        said = blows.libvirtd_killed(town.host, chance)
    elif kind == "full":
        said = _filled(town, chance)
    elif chance.random() < 0.2:
        said = blows.worker_killed(service, chance)
    else:
        said = blows.killed(service, chance)
    # a call that was cut off waits for the next start
    if not service.runs():
        service.start()
    asking.join()
    return said


def _filled(town: Town, chance: random.Random) -> str:
    places = [("state", town.service.state)]
    places += [(f"pool {one.iso}", town.service.pools / one.pool) for one in town.service.datacenters]
    name, folder = chance.choice(places)
    moment, leave = chance.uniform(0, 1), chance.randrange(_LEFT)
    time.sleep(moment)
    with blows.full(folder, leave):
        # so long nothing can be written: what happens meanwhile is what this is about
        time.sleep(_FULL)
    return f"{name} full but for {leave // 1024} KiB after {moment:.2f} s"


def kept(file: Path, town: Town) -> None:
    """Keep what tells why a round was not clean."""
    file.mkdir(parents=True, exist_ok=True)
    for one in [*town.service.state.glob("*.db*"), town.service.state / "service.log"]:
        (file / one.name).write_bytes(one.read_bytes())
