"""Samples of what the virtual machines use, taken at regular times."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator

from sqlalchemy import select

from api.operations.blueprint import disk_of, iface_of
from api.store.database import Store
from api.store.models import Vm
from api.store.statistics import Point, Source, Statistics
from hypervisor.domain.counters import DomainCounters
from hypervisor.domain.statistics import Reader
from hypervisor.errors import HypervisorError

log = logging.getLogger(__name__)

_GAP = 3  # a line ends when so many rounds told nothing
_STOP_PATIENCE = 5.0
_NANOSECONDS = 1e-9


class Rates:
    """Turns counters into rates; `every` is the seconds from one round to the next."""

    def __init__(self, every: float) -> None:
        self._every, self._longest = every, _GAP * every
        # of each VM the run of its domain, and of each counter when it was what
        self._last: dict[int, tuple[int, dict[Source, tuple[float, float]]]] = {}

    def take(self, at: float, vm_id: int, counters: DomainCounters) -> list[tuple[Source, Point]]:
        """What the VM used since the last time, which ended `at`.

        Nothing for a counter that is new, that went back, or that belongs to a domain that was started anew.
        """
        run, last = self._last.get(vm_id, (None, {}))
        if run != counters.run:
            last = {}
        points = []
        for source, value in _counted(vm_id, counters):
            then, before = last.get(source, (at, value))
            last[source] = (at, value)
            if 0 < at - then <= self._longest and value >= before:
                points.append((source, Point(int(at), at - then, (value - before) / (at - then))))
        points += (
            (source, Point(int(at), self._longest / _GAP, level))
            for source, level in _levels(vm_id, counters)
        )
        self._last[vm_id] = (counters.run, last)
        return points

    def forget(self, others: set[int]) -> None:
        """Drop what is known of all VMs but the `others`."""
        for vm_id in self._last.keys() - others:
            del self._last[vm_id]


def _counted(vm_id: int, counters: DomainCounters) -> Iterator[tuple[Source, float]]:
    for number, nanoseconds in counters.vcpus.items():
        yield Source(vm_id, "vcpu.time", number, "used"), nanoseconds * _NANOSECONDS
    for disk in counters.disks:
        disk_id = disk_of(disk.alias)
        if disk_id is not None:
            yield Source(vm_id, "vbd.bytes", disk_id, "read"), disk.read_bytes
            yield Source(vm_id, "vbd.bytes", disk_id, "write"), disk.written_bytes
            yield Source(vm_id, "vbd.requests", disk_id, "read"), disk.read_requests
            yield Source(vm_id, "vbd.requests", disk_id, "write"), disk.write_requests
    for interface in counters.interfaces:
        iface_id = iface_of(interface.alias)
        if iface_id is not None:
            yield Source(vm_id, "vif.bytes", iface_id, "in"), interface.received_bytes
            yield Source(vm_id, "vif.bytes", iface_id, "out"), interface.sent_bytes
            yield Source(vm_id, "vif.packets", iface_id, "in"), interface.received_packets
            yield Source(vm_id, "vif.packets", iface_id, "out"), interface.sent_packets


def _levels(vm_id: int, counters: DomainCounters) -> Iterator[tuple[Source, float]]:
    if counters.memory is not None:
        yield Source(vm_id, "vram.bytes", 0, "given"), counters.memory
    if counters.memory_used is not None:
        yield Source(vm_id, "vram.bytes", 0, "used"), counters.memory_used


class Sampler:
    """Takes a sample of every running VM in `datacenters`, which the reader's libvirt serves, each
    `statistics.every` seconds.

    A round that is late is left out; nothing in it waits for a QEMU or a libvirt that is stuck.
    """

    def __init__(
        self,
        store: Store,
        statistics: Statistics,
        reader: Reader,
        datacenters: Collection[int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._statistics = statistics
        self._reader = reader
        self._datacenters = tuple(datacenters)
        self._clock = clock
        self._rates = Rates(statistics.every)
        self._silent = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="statistics", daemon=True)

    def start(self) -> None:
        """Begin, with a first round at once."""
        self._thread.start()

    def stop(self) -> None:
        """End; may be called before `start`."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_PATIENCE)

    def _run(self) -> None:
        every = self._statistics.every
        while True:
            try:
                self.round()
            except Exception:
                log.exception("a round of statistics failed")
            if self._ending.wait(every - self._clock() % every):
                return

    def round(self) -> None:
        """Take one sample of all VMs that run."""
        with self._store.reading() as session:
            ours = (Vm.state != "deleted", Vm.datacenter_id.in_(self._datacenters))
            known = session.execute(select(Vm.uuid, Vm.id).where(*ours))
            vms = {row.uuid: row.id for row in known}
        try:
            found = self._reader.read(vms.keys()) if vms else []
        except HypervisorError as error:
            if not self._silent:
                log.warning("no statistics until this is over: %s", error)
            self._silent = True
            return
        self._silent = False
        # not when it was asked: an answer that takes long would make more of what was used
        at = self._clock()
        points = [point for one in found for point in self._rates.take(at, vms[one.uuid], one)]
        self._rates.forget({vms[one.uuid] for one in found})
        self._statistics.add(points)
