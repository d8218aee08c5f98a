"""The service under faults, with all that is needed to see what became of it."""

import random
import time
import xmlrpc.client
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import blows
from tests.faults.book import Book
from tests.faults.checker import Checker
from tests.faults.records import Records
from tests.faults.workload import SIZE, View, Workload
from tests.service.host import Host
from tests.service.process import Service
from tests.service.waiting import until

# a deaf guest costs so many seconds; those that obey under emulation are quicker
SETTINGS = {
    "HYPERVISOR_PATIENCE__STOP": "4",
    "HYPERVISOR_PATIENCE__STOP_AGAIN": "2",
    "HYPERVISOR_PATIENCE__REBOOT": "4",
    "HYPERVISOR_PATIENCE__DETACH": "3",
    "HYPERVISOR_PATIENCE__DETACH_AGAIN": "1",
    "PYTHONPATH": str(blows.SEAM),
}
# in seconds: what has not ended then is stuck
LIMIT = 120.0
# the release of claims is a commit of its own, and devices leave by events
_AFTERMATH = 15.0


@dataclass
class Verdict:
    """What a look found: nothing, when all is well."""

    lost: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.leaked or self.stuck)

    def __str__(self) -> str:
        return "\n".join(
            f"  {kind}: {what}" for kind, found in vars(self).items() for what in sorted(set(found))
        )


class Town:
    """One service, its clients' work and the book of what must be there."""

    def __init__(self, service: Service, host: Host, plan: Path) -> None:
        self.service, self.host, self.plan = service, host, plan
        self.checker = Checker(host.connection, service.state, service.first_vm)
        self.book = Book()

    def settle(self, workload: Workload) -> list[str]:
        """Wait until all operations have ended; what has not in time."""
        deadline = time.monotonic() + LIMIT
        client = self.service.client()
        while time.monotonic() < deadline:
            if not self.service.runs():
                return ["the service has ended"]
            try:
                workload.client = client
                workload.finish_moves()
                if not self.records().unfinished:
                    return []
            except (OSError, xmlrpc.client.Error):
                client = self.service.client()
            time.sleep(0.1)
        return [
            f"operation {one['id']} ({one['type']}, job {one['job_id']}) is {one['step']}: {one['params']}"
            for one in self.records().unfinished
        ]

    def wake(self) -> None:
        """Let machines go on that were paused because their disk was full."""
        client = self.service.client()
        paused = client.call("hosting.vm.list", {"state": "paused"})
        client.finished([client.call("hosting.vm.start", one["id"]) for one in paused])

    def records(self) -> Records:
        """The records now."""
        return Records.read(self.service.state)

    def look(self, workload: Workload) -> Verdict:
        """Compare everything, until all is well or the aftermath is over."""
        self.book.follow(self.records())
        deadline = time.monotonic() + _AFTERMATH
        while (found := self.compared(workload)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def compared(self, workload: Workload) -> Verdict:
        """What is not as it must be at this moment."""
        records = self.records()
        checker = self.checker = Checker(self.host.connection, self.service.state, self.service.first_vm)
        domains = checker.domains()
        known = {one["id"] for one in records.operation}
        return Verdict(
            lost=[
                *checker.lost(records, domains),
                *self.book.missing(records),
                *self.book.changed(records, checker.pools),
                *(
                    f"operation {one['id']} was promised"
                    for one in workload.accepted
                    if one["id"] not in known
                ),
            ],
            leaked=[*checker.leaked(records, domains), *self.book.surplus(records)],
            stuck=[f"{one['resource']} is claimed by job {one['job_id']}" for one in records.claim],
        )

    def stamp(self, chance: random.Random) -> None:
        """Write into the disks that nobody uses."""
        self.book.stamp(self.records(), self.checker.pools, chance)

    def settled_in(self) -> None:
        """Make the first machines, disks and interfaces."""
        client, chance = self.service.client(), random.Random(0)
        view = View.take(client)
        asked = []
        for number, here in enumerate([*sorted(view.images), sorted(view.images)[0]]):
            spec = {"hostname": f"h{number}", "datacenter_id": here, "memory": 128, "vm_max_memory": 256}
            asked += client.call("hosting.vm.create_from", spec, {"datacenter_id": here}, view.images[here])
            asked.append(client.call("hosting.disk.create", {"datacenter_id": here, "size": SIZE}))
            asked.append(client.call("hosting.iface.create", {"datacenter_id": here}))
        client.done(asked, LIMIT)
        machines = client.call("hosting.vm.list")
        # one goes on; the others are off, so that most of the work needs no guest
        client.done([client.call("hosting.vm.stop", one["id"]) for one in machines[1:]], LIMIT)
        until(lambda: not self.records().claim, _AFTERMATH, "nothing is claimed any more")
        found = self.look(Workload(client, chance))
        assert not found, f"not even before the first fault:\n{found}"
        self.stamp(chance)


@contextmanager
def founded(folder: Path, host: Host, settings: dict[str, str] | None = None) -> Iterator[Town]:
    """A town with its first inhabitants, in small file systems of its own."""
    state, plan = folder / "state", folder / "plan"
    with ExitStack() as stack:
        stack.enter_context(blows.file_system(state))
        service = Service(state, host, {**SETTINGS, "FAULTS_PLAN": str(plan), **(settings or {})})
        for one in service.datacenters:
            stack.enter_context(blows.file_system(service.pools / one.pool))
        stack.callback(service.dispose)
        town = Town(service.start(), host, plan)
        town.settled_in()
        yield town
