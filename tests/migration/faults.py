"""Faults in the middle of a migration: it ends, all of the machine is in one datacenter, nothing is lost.

One machine goes to and fro. Each fault comes MIGRATION_FAULTS times (once by default); MIGRATION_SEED is what
the random moments follow from. The outcomes are printed as a table at the end. This takes minutes and is run
on its own: ``hypervisor lab -- python -m pytest tests/migration/faults.py -s``.
"""

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from lxml import etree
from rich.console import Console
from rich.table import Table

from tests.devices.kit import World
from tests.migration.moving import FINALIZE, SYNC, Traveller, place, synced, traveller
from tests.service.client import FINISHED, Struct
from tests.service.waiting import until

pytestmark = pytest.mark.guest

TIMES = int(os.environ.get("MIGRATION_FAULTS", "1"))
SEED = int(os.environ.get("MIGRATION_SEED", random.randrange(2**16)))
FILL = 40  # MiB

CHANCE = random.Random(SEED)


@dataclass
class Journey:
    """A migration under way."""

    mover: Traveller
    operation: Struct
    # what it was told: to end, or to be taken back
    told: bool = False

    @property
    def world(self) -> World:
        return self.mover.world

    def now(self) -> Struct:
        """The operation."""
        return self.world.client.operation(self.operation["id"])

    def copying(self) -> None:
        """Wait for the middle of the copy of the running machine's disks."""
        domain = self.world.service.domain(self.mover.vm_id)

        def mirrored() -> bool:
            mirrors = etree.fromstring(domain.XMLDesc().encode()).findall("devices/disk/mirror")
            return bool(mirrors) and any(one.get("ready") is None for one in mirrors)

        until(mirrored, 20, lambda: f"a mirror that is not ready: {self.now()}")
        assert self.now()["params"]["inner_step"] == SYNC

    def in_step(self) -> None:
        """Wait until it may be finalized."""
        synced(self.world, self.operation)

    def finalized(self) -> None:
        """Wait until it may be finalized, and ask for that."""
        self.in_step()
        self.finalize()

    def finalize(self) -> None:
        """Ask for its end."""
        self.mover.finalize()
        self.told = True

    def target(self) -> str:
        """The pool that it goes to."""
        return place(self.world, self.operation["params"]["to_dc_id"]).pool

    def ended(self) -> Struct:
        """The operation at its end; one that waits to be finalized is."""

        def ended() -> bool:
            now = self.now()
            waits = now["step"] == "RUN" and now["params"]["inner_step"] == FINALIZE
            if waits and not self.told:
                self.finalize()
            return now["step"] in FINISHED

        until(ended, 90, lambda: f"the migration ends: {self.now()}")
        return self.now()


# what happens, each with the steps that the operation may end in


def cancelled(journey: Journey) -> None:
    assert journey.world.client.call("operation.cancel", journey.operation["id"])
    journey.told = True


def libvirtd_killed(journey: Journey) -> None:
    journey.world.service.host.kill_libvirtd()


def service_killed(journey: Journey) -> None:
    journey.world.service.kill()
    journey.world.service.start()


def service_killed_later(journey: Journey) -> None:
    moment = CHANCE.uniform(0, 2)
    print(f"service killed {moment:.3f} s after the call")
    # a moment of its own, not one of an event
    time.sleep(moment)
    service_killed(journey)


def pool_destroyed(journey: Journey) -> None:
    journey.world.service.host.connection.storagePoolLookupByName(journey.target()).destroy()


def powered_off(journey: Journey) -> None:
    journey.mover.guest.attempt("poweroff")
    domain = journey.world.service.domain(journey.mover.vm_id)
    until(lambda: not domain.isActive(), 30, "the guest is off")


def rebooted(journey: Journey) -> None:
    journey.mover.guest.attempt("reboot")


def no_space(journey: Journey) -> None:
    folder = journey.world.service.pools / journey.target()
    space = os.statvfs(folder)
    used = (space.f_blocks - space.f_bfree) * space.f_frsize // 2**20
    subprocess.run(["mount", "-o", f"remount,size={used + 16}m", folder], check=True)


@dataclass(frozen=True)
class Fault:
    name: str
    when: Callable[[Journey], None]
    what: Callable[[Journey], None]
    ends: tuple[str, ...] = ("DONE",)
    stays: bool = False


FAULTS = (
    Fault("cancel in wait_sync", Journey.copying, cancelled, ("CANCEL",)),
    Fault("cancel in wait_finalize", Journey.in_step, cancelled, ("CANCEL",)),
    Fault("pool destroyed in wait_sync", Journey.copying, pool_destroyed, ("DONE", "ERROR")),
    Fault("pool destroyed in wait_finalize", Journey.in_step, pool_destroyed, ("DONE", "ERROR")),
    Fault("libvirtd killed in wait_sync", Journey.copying, libvirtd_killed),
    Fault("libvirtd killed in wait_finalize", Journey.in_step, libvirtd_killed),
    Fault("libvirtd killed after finalize", Journey.finalized, libvirtd_killed),
    Fault("service killed in wait_sync", Journey.copying, service_killed),
    Fault("service killed in wait_finalize", Journey.in_step, service_killed),
    Fault("service killed after finalize", Journey.finalized, service_killed_later),
    Fault("guest reboots in wait_sync", Journey.copying, rebooted),
    Fault("guest off in wait_sync", Journey.copying, powered_off),
    Fault("guest off in wait_finalize", Journey.in_step, powered_off),
    Fault("no space in wait_sync", Journey.copying, no_space, ("ERROR",)),
)


@dataclass
class Row:
    times: int = 0
    moved: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    error: str = ""


@pytest.fixture(scope="module")
def rows() -> Iterator[dict[str, Row]]:
    """The outcomes by fault, printed at the end."""
    found: dict[str, Row] = {}
    yield found
    table = Table("fault", "times", "moved", "not moved", "ended", "seconds", "last error")
    for name, row in found.items():
        ends = ", ".join(f"{count} {step}" for step, count in row.ends.items())
        longest = f"{max(row.seconds):.1f}"
        table.add_row(
            name, str(row.times), str(row.moved), str(row.times - row.moved), ends, longest, row.error
        )
    print(f"\nMIGRATION_SEED={SEED}")
    Console(width=150).print(table)


@pytest.fixture(scope="module")
def mover(world: World) -> Iterator[Traveller]:
    """The machine that goes to and fro."""
    made = traveller(world, "fro", world.disks(1), FILL)
    yield made
    world.discard(made.vm_id)


@pytest.mark.timeout(120 * TIMES)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: one.name.replace(" ", "_"))
def test_fault(world: World, mover: Traveller, rows: dict[str, Row], fault: Fault) -> None:
    row = rows.setdefault(fault.name, Row())
    for _ in range(TIMES):
        mover.counting()
        here = mover.whole()
        if fault.what is no_space and here != world.here:
            # only the second pool has an end
            operation = mover.depart()
            journey = Journey(mover, operation)
            assert journey.ended()["step"] == "DONE"
            here = mover.whole()
        begun = time.monotonic()
        journey = Journey(mover, mover.depart())
        fault.when(journey)
        fault.what(journey)
        try:
            ended = journey.ended()
        finally:
            restored(journey)
        took = time.monotonic() - begun
        there = mover.whole()
        print(f"{fault.name}: {ended['step']} after {took:.1f} s, {ended['last_error']}")
        row.times += 1
        row.moved += there != here
        row.ends[ended["step"]] = row.ends.get(ended["step"], 0) + 1
        row.seconds.append(took)
        row.error = ended["last_error"] or row.error
        assert ended["step"] in fault.ends
        assert (there != here) == (ended["step"] == "DONE")
        assert (ended["last_error"] is not None) == (ended["step"] == "ERROR")
        if world.client.vm(mover.vm_id)["state"] == "running":
            mover.counting()
    mover.counting()


def restored(journey: Journey) -> None:
    """Give back what the fault took."""
    for one in journey.world.service.datacenters:
        handle = journey.world.service.host.connection.storagePoolLookupByName(one.pool)
        if not handle.isActive():
            handle.create()
    second = journey.world.service.pools / journey.world.service.datacenters[1].pool
    subprocess.run(["mount", "-o", "remount,size=64g", second], check=True)
