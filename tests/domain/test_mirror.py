"""Disks of running machines moved to another pool."""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest

from hypervisor.connection import Connection
from hypervisor.domain import hotplug, jobs, leftovers, mirror, monitor, power, standstill
from hypervisor.domain.mirror import MachineStopped, Mirror, MirrorLost, copying, switching
from hypervisor.domain.power import State
from hypervisor.domain.spec import DiskSpec, DomainSpec
from hypervisor.errors import HypervisorError
from hypervisor.events import Event, Kind
from hypervisor.libvirt_errors import Unavailable
from hypervisor.storage import pool, volume
from tests.connection.daemon import OwnLab
from tests.connection.relay import Relay
from tests.domain.conftest import NewSpec
from tests.domain.test_devices import image, qemu_io
from tests.service.waiting import until

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20
SLOW = MIB  # bytes/s: nothing gets ready within a test
_numbers = itertools.count(1)

MakePool = Callable[[Path], str]


@pytest.fixture
def make_pool(connection: libvirt.virConnect) -> Iterator[MakePool]:
    """Make pools, and let libvirt forget them after the test."""
    made: list[str] = []

    def make(path: Path) -> str:
        made.append(f"test-mirror-{os.getpid()}-{next(_numbers)}")
        pool.ensure(connection, made[-1], path)
        return made[-1]

    yield make
    for name in made:
        handle = connection.storagePoolLookupByName(name)
        if handle.isActive():
            handle.destroy()
        handle.undefine()


@dataclass(frozen=True)
class Machine:
    """A running machine, and where its disks shall go."""

    connection: libvirt.virConnect
    spec: DomainSpec
    mirrors: Sequence[Mirror]

    @property
    def uuid(self) -> str:
        return self.spec.uuid

    @property
    def domain(self) -> libvirt.virDomain:
        return power.lookup(self.connection, self.uuid)

    @property
    def state(self) -> State:
        return power.state(self.connection, self.uuid)

    @property
    def jobs(self) -> int:
        return str(self.domain.XMLDesc()).count("<mirror")

    @property
    def is_marked(self) -> bool:
        return standstill.NAMESPACE in self.domain.XMLDesc()

    @property
    def limits(self) -> set[int]:
        """What the jobs are held to, in bytes/s."""
        unit = libvirt.VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES
        disks = [disk.target for disk in self.spec.disks]
        return {self.domain.blockJobInfo(disk, unit)["bandwidth"] for disk in disks}

    def begin(self, bandwidth: int = 0) -> None:
        mirror.begin(self.connection, self.uuid, self.mirrors, bandwidth)

    def progress(self) -> mirror.Progress:
        return mirror.progress(self.connection, self.uuid, self.mirrors)

    def switch(self) -> None:
        mirror.switch(self.connection, self.uuid, self.mirrors)

    def write(self, alias: str, command: str) -> None:
        """Write as the guest does."""
        device = f"/machine/peripheral/{alias}/virtio-backend"
        written = f'qemu-io -d {device} "{command}"'
        subprocess.run(["virsh", "-q", "qemu-monitor-command", self.uuid, "--hmp", written], check=True)

    def check_moved(self) -> None:
        """Nothing is left of the old volumes, and what they held is in the new ones."""
        copies = {f"ua-{number}": (one.copy, one.copy) for number, one in enumerate(self.mirrors)}
        assert mirror.places(self.connection, self.uuid) == copies
        assert self.jobs == 0
        assert not self.is_marked
        power.cut_off(self.connection, self.uuid)
        assert [disk.path for disk in power.read(self.connection, self.uuid).disks] == [
            one.copy for one in self.mirrors
        ]
        for number, one in enumerate(self.mirrors):
            one.source.unlink()
            check(one.copy, number)
        power.start(self.connection, self.uuid)


def check(copy: Path, number: int) -> None:
    qemu_io(copy, "read -P 7 0 20M", f"read -P {number + 10} 20M 10M", "read -P 0 30M 60M")


@pytest.fixture
def make_machine(
    connection: libvirt.virConnect, new_spec: NewSpec, make_pool: MakePool, tmp_path: Path
) -> Callable[..., Machine]:
    """Start a machine whose disks depend on a base, with copies prepared in another pool."""

    def make(count: int = 1, to: Path | None = None) -> Machine:
        old, new = make_pool(tmp_path / "old <&'"), make_pool(to or tmp_path / "new <&'")
        base = volume.create_empty(connection, old, "base.qcow2", 100)
        qemu_io(base, "write -P 7 0 20M")
        mirrors = []
        for number in range(count):
            source = volume.create_overlay(connection, old, f"disk{number}.qcow2", 100, base)
            qemu_io(source, f"write -P {number + 10} 20M 10M")
            mirrors.append(Mirror(source, volume.create_empty(connection, new, f"disk{number}.qcow2", 100)))
        spec = new_spec(
            disks=tuple(
                DiskSpec(f"ua-{number}", one.source, f"vd{'abc'[number]}")
                for number, one in enumerate(mirrors)
            )
        )
        power.define(connection, spec)
        power.start(connection, spec.uuid)
        return Machine(connection, spec, mirrors)

    return make


def begin_and_wait(lasting: Connection, machine: Machine, bandwidth: int = 0) -> list[Event]:
    """Begin the mirrors and wait until they are ready, by events alone; returns those of the jobs."""
    seen: list[Event] = []

    async def wait() -> None:
        with lasting.events.watching(machine.uuid) as watch:
            machine.begin(bandwidth)
            while not machine.progress().ready:
                event = await watch.next(20)
                assert event is not None
                if event.kind is Kind.BLOCK_JOB:
                    seen.append(event)

    asyncio.run(wait())
    return seen


@pytest.mark.parametrize("count", [1, 3])
def test_a_move(lasting: Connection, make_machine: Callable[..., Machine], count: int) -> None:
    machine = make_machine(count)
    # what an earlier attempt left in the copy does not shine through
    qemu_io(machine.mirrors[0].copy, "write -P 99 0 90M")
    seen = begin_and_wait(lasting, machine)
    assert {event.device for event in seen} <= {"vda", "vdb", "vdc"}
    done = machine.progress()
    assert done.ready
    assert done.copied == done.total >= count * 30 * MIB
    assert machine.state is State.RUNNING
    # what the guest writes now is in the copy too
    machine.write("ua-0", "write -P 5 95M 1M")
    machine.switch()
    assert machine.state is State.RUNNING
    machine.write("ua-0", "write -P 6 96M 1M")
    machine.check_moved()
    assert machine.progress() == mirror.Progress(count * 100 * MIB, count * 100 * MIB, ready=True)
    for one in machine.mirrors[1:]:
        assert one.copy.stat().st_blocks * 512 < 32 * MIB
    # all of it once more changes nothing
    machine.begin()
    machine.switch()
    mirror.abandon(machine.connection, machine.uuid, machine.mirrors)
    assert machine.jobs == 0
    power.cut_off(machine.connection, machine.uuid)
    qemu_io(machine.mirrors[0].copy, "read -P 5 95M 1M", "read -P 6 96M 1M")


def test_events_of_a_switch(lasting: Connection, make_machine: Callable[..., Machine]) -> None:
    machine = make_machine(2)
    begin_and_wait(lasting, machine)

    async def switch() -> list[Event]:
        seen: list[Event] = []
        with lasting.events.watching(machine.uuid) as watch:
            machine.switch()
            while not {("vda", Kind.BLOCK_JOB), ("vdb", Kind.BLOCK_JOB), ("", Kind.RESUMED)} <= {
                (event.device, event.kind) for event in seen
            }:
                event = await watch.next(20)
                assert event is not None, seen
                seen.append(event)
        return seen

    kinds = [event.kind for event in asyncio.run(switch())]
    assert [kind for kind in kinds if kind is not Kind.BLOCK_JOB] == [Kind.SUSPENDED, Kind.RESUMED]


def test_what_is_written_all_the_while(lasting: Connection, make_machine: Callable[..., Machine]) -> None:
    machine = make_machine()
    many, switched = threading.Event(), threading.Event()

    def write() -> int:
        before = after = 0
        while after < 5:
            number = before + after
            machine.write("ua-0", f"write -P {number % 250 + 1} {number * 64}k 64k")
            if switched.is_set():
                after += 1
            else:
                before += 1
            if before > 5:
                many.set()
        return before + after

    with ThreadPoolExecutor() as threads:
        writing = threads.submit(write)
        try:
            begin_and_wait(lasting, machine, 32 * MIB)
            assert many.wait(60)
            machine.switch()
        finally:
            switched.set()
        count = writing.result()
    power.cut_off(machine.connection, machine.uuid)
    machine.mirrors[0].source.unlink()
    reads = (f"read -P {number % 250 + 1} {number * 64}k 64k" for number in range(count))
    qemu_io(machine.mirrors[0].copy, *reads)


def test_begin_again_leaves_the_job(make_machine: Callable[..., Machine]) -> None:
    machine = make_machine(2)
    machine.begin(2 * SLOW)
    assert machine.limits == {SLOW}
    before = machine.progress()
    assert not before.ready
    machine.begin()
    assert machine.limits == {SLOW}
    assert machine.progress().copied >= before.copied
    with pytest.raises(HypervisorError, match=r"copy of vda of domain .* is not complete: wait"):
        machine.switch()
    assert (machine.state, machine.is_marked, machine.jobs) == (State.RUNNING, False, 2)


def test_abandon(lasting: Connection, make_machine: Callable[..., Machine]) -> None:
    machine = make_machine(2)
    sources = {f"ua-{number}": (one.source, one.source) for number, one in enumerate(machine.mirrors)}
    machine.begin(SLOW)
    for _ in range(2):
        mirror.abandon(machine.connection, machine.uuid, machine.mirrors)
        assert machine.jobs == 0
    assert mirror.places(machine.connection, machine.uuid) == sources
    with pytest.raises(MirrorLost, match="somebody ended it, or QEMU did"):
        machine.progress()
    with pytest.raises(MirrorLost, match="ended before the switch"):
        machine.switch()
    begin_and_wait(lasting, machine)
    mirror.abandon(machine.connection, machine.uuid, machine.mirrors)
    assert machine.jobs == 0
    begin_and_wait(lasting, machine)
    machine.switch()
    machine.check_moved()


def test_the_machine_stops(make_machine: Callable[..., Machine]) -> None:
    machine = make_machine()
    machine.begin(SLOW)
    for end in (power.cut_off, power.undefine):
        end(machine.connection, machine.uuid)
        for call in (machine.begin, machine.progress, machine.switch):
            with pytest.raises(MachineStopped, match="is not running"):
                call()
        mirror.abandon(machine.connection, machine.uuid, machine.mirrors)
    assert mirror.places(machine.connection, machine.uuid) == {}


def test_no_space(lasting: Connection, make_machine: Callable[..., Machine], tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    try:
        machine = make_machine(to=folder)
        with pytest.raises(
            MirrorLost, match=r"storage pool \S+ has \d MiB left and the copy may need \d+ more"
        ):
            begin_and_wait(lasting, machine)
        assert (machine.state, machine.jobs) == (State.RUNNING, 0)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_the_pool_is_gone(make_machine: Callable[..., Machine]) -> None:
    machine = make_machine()
    volume_handle = machine.connection.storageVolLookupByPath(str(machine.mirrors[0].copy))
    volume_handle.storagePoolLookupByVolume().destroy()
    with pytest.raises(MirrorLost, match=r"is out of reach .*: start its storage pool"):
        machine.progress()


def test_somebody_elses_job(
    make_machine: Callable[..., Machine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = make_machine()
    (source, copy) = (machine.mirrors[0].source, machine.mirrors[0].copy)
    other = tmp_path / "other.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", other, "100M"], check=True)
    jobs.start(machine.domain, "vda", other, bandwidth=SLOW)
    monkeypatch.setattr(copying, "_PATIENCE", 0)
    with pytest.raises(HypervisorError, match=r"virsh blockjob \S+ vda --abort"):
        machine.begin()
    for call in (machine.progress, machine.switch):
        with pytest.raises(MirrorLost, match=f"somebody else copies the disk to {other}"):
            call()
    mirror.abandon(machine.connection, machine.uuid, machine.mirrors)
    assert machine.jobs == 1
    assert mirror.places(machine.connection, machine.uuid) == {"ua-0": (source, source)}
    # what an earlier attempt left of a volume that is gone is nobody's
    machine.domain.blockJobAbort("vda")
    gone = copy.with_name("gone.qcow2")
    other.rename(gone)
    jobs.start(machine.domain, "vda", gone, bandwidth=SLOW)
    gone.unlink()
    machine.begin(SLOW)
    assert machine.progress().total > 0


def test_a_disk_that_the_machine_does_not_have(make_machine: Callable[..., Machine]) -> None:
    machine = make_machine()
    nothing = [Mirror(Path("/nowhere/a"), Path("/nowhere/b"))]
    for call in (mirror.begin, mirror.progress, mirror.switch):
        with pytest.raises(HypervisorError, match="uses neither /nowhere/a nor /nowhere/b"):
            call(machine.connection, machine.uuid, nothing)
    mirror.abandon(machine.connection, machine.uuid, nothing)


def test_a_paused_machine_stays_paused(lasting: Connection, make_machine: Callable[..., Machine]) -> None:
    machine = make_machine(2)
    power.suspend(machine.connection, machine.uuid)
    begin_and_wait(lasting, machine)
    for _ in range(2):
        machine.switch()
        assert machine.state is State.PAUSED
    machine.check_moved()


KILLED = """
import os, signal, sys, libvirt
from pathlib import Path
from hypervisor.domain import mirror, standstill
from hypervisor.domain.mirror import switching
where, uuid, *paths = sys.argv[1:]
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
hold, pivot, mark, ask = standstill.hold, switching._pivot, standstill._mark, libvirt.virDomain.blockJobAbort
synchronous = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT
if where == "marked":
    libvirt.virDomain.suspend = die
elif where == "held":
    switching._pivot = die
elif where == "asked":
    switching.settled = lambda *a, real=switching.settled: real(*a) if not asked else die()
    asked = []
    libvirt.virDomain.blockJobAbort = lambda *a: (ask(*a), asked.append(a))
elif where == "one moved":
    libvirt.virDomain.blockJobAbort = lambda one, disk, _: (ask(one, disk, synchronous), die())
elif where == "all moved":
    switching._pivot = lambda *a: (pivot(*a), die())
elif where == "resumed":
    standstill._mark = lambda d, content: die() if content is None else mark(d, content)
mirrors = [mirror.Mirror(Path(a), Path(b)) for a, b in zip(paths[::2], paths[1::2])]
mirror.switch(libvirt.open("qemu:///system"), uuid, mirrors)
"""


@pytest.mark.parametrize("where", ["marked", "held", "asked", "one moved", "all moved", "resumed"])
def test_a_service_killed_in_a_switch(
    lasting: Connection, make_machine: Callable[..., Machine], where: str
) -> None:
    machine = make_machine(2)
    begin_and_wait(lasting, machine)
    paths = [path for one in machine.mirrors for path in (one.source, one.copy)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, where, machine.uuid, *paths], check=False, cwd=ROOT
    )
    assert killed.returncode == -9
    assert machine.is_marked
    running = where in ("marked", "resumed")
    assert machine.state is (State.RUNNING if running else State.PAUSED)
    machine.switch()
    assert machine.state is State.RUNNING
    machine.check_moved()


def test_the_connection_breaks_in_a_switch(
    lasting: Connection,
    make_machine: Callable[..., Machine],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    machine = make_machine(2)
    begin_and_wait(lasting, machine)
    relay = Relay(tmp_path / "socket", "/run/libvirt/libvirt-sock")
    broken = Connection(relay.uri)
    broken.start()
    pivot = switching._pivot

    def cut(*arguments: Any) -> None:
        assert machine.state is State.PAUSED
        relay.cut()
        pivot(*arguments)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(switching, "_pivot", cut)
            with pytest.raises(Unavailable, match="connection to libvirt broke"):
                mirror.switch(broken.handle(wait=10), machine.uuid, machine.mirrors)
        assert (machine.state, machine.is_marked, machine.jobs) == (State.RUNNING, False, 2)
        mirror.switch(broken.handle(wait=10), machine.uuid, machine.mirrors)
    finally:
        broken.stop()
        relay.close()
    machine.check_moved()


def ask_on(machine: Machine) -> None:
    while True:
        machine.progress()


def test_libvirtd_is_killed(tmp_path: Path) -> None:
    """The jobs and the mark are there again when libvirt is."""
    lab = OwnLab(f"test-mirror-{os.getpid()}", tmp_path / "lab")
    lab.start()
    lasting = Connection(lab.uri)
    lasting.start()
    try:
        one = Mirror(image(tmp_path / "a.qcow2", "write -P 7 0 20M"), image(tmp_path / "b.qcow2"))
        uuid = "5a7b1c9e-52a0-4f0a-9d5c-0123456789ac"
        spec = DomainSpec(uuid, "killed", 1, 1, 64, 64, False, disks=(DiskSpec("ua-0", one.source, "vda"),))
        power.define(lasting.handle(wait=10), spec)
        power.start(lasting.handle(), uuid)
        machine = Machine(lasting.handle(), spec, [one])
        begin_and_wait(lasting, machine)
        standstill.hold(machine.domain)
        lab.signal(signal.SIGKILL)
        with pytest.raises(Unavailable):
            ask_on(machine)
        machine = Machine(lasting.handle(wait=10), spec, [one])
        assert machine.progress().ready
        assert machine.state is State.PAUSED
        machine.switch()
        assert power.state(lasting.handle(), uuid) is State.RUNNING
        assert mirror.places(lasting.handle(), uuid) == {"ua-0": (one.copy, one.copy)}
    finally:
        lasting.stop()
        lab.end()


def test_a_copy_that_is_open_already(make_machine: Callable[..., Machine]) -> None:
    """As a libvirtd leaves it that is killed between opening the copy in QEMU and writing that down."""
    machine = make_machine()
    storage, form = "libvirt-90-storage", "libvirt-90-format"
    copy = str(machine.mirrors[0].copy)
    monitor.ask(machine.domain, "blockdev-add", **{"driver": "file", "node-name": storage, "filename": copy})
    monitor.ask(machine.domain, "blockdev-add", **{"driver": "qcow2", "node-name": form, "file": storage})
    before = nodes(machine)
    machine.begin(SLOW)
    assert machine.jobs == 1
    assert before - nodes(machine) == {storage, form}
    mirror.abandon(machine.connection, machine.uuid, machine.mirrors)
    assert nodes(machine) == before - {storage, form}
    assert not leftovers.end_copy(machine.domain, "vda")


def nodes(machine: Machine) -> set[str]:
    return {one["node-name"] for one in monitor.ask(machine.domain, "query-named-block-nodes", flat=True)}


def test_libvirtd_is_killed_while_mirrors_begin(tmp_path: Path) -> None:
    """Whatever it left in QEMU, they begin the second time, and nothing is open once they are abandoned."""
    lab = OwnLab(f"test-begin-{os.getpid()}", tmp_path / "lab")
    lab.start()
    lasting = Connection(lab.uri)
    lasting.start()
    chance = random.Random(17)
    try:
        uuid = "5a7b1c9e-52a0-4f0a-9d5c-0123456789ad"
        disks = [image(tmp_path / f"{name}.qcow2", "write -P 7 0 20M") for name in "ab"]
        targets = tuple(DiskSpec(f"ua-{one.stem}", one, f"vd{one.stem}") for one in disks)
        spec = DomainSpec(uuid, "killed", 1, 1, 64, 64, False, disks=targets)
        power.define(lasting.handle(wait=10), spec)
        power.start(lasting.handle(), uuid)
        before = nodes(Machine(lasting.handle(), spec, []))
        for number in range(4):
            mirrors = [Mirror(one, image(tmp_path / f"{one.stem}{number}.qcow2")) for one in disks]
            machine = Machine(lasting.handle(wait=10), spec, mirrors)
            lab.settled()
            broken = machine.connection
            begun = threading.Thread(target=_begin_in_vain, args=(machine,))
            killed = threading.Timer(chance.uniform(0, 0.05), lab.signal, (signal.SIGKILL,))
            begun.start()
            killed.start()
            begun.join()
            killed.join()
            machine = Machine(_another(lasting, broken), spec, mirrors)
            machine.begin(SLOW)
            assert machine.jobs == 2
            mirror.abandon(lasting.handle(), uuid, mirrors)
            assert nodes(machine) == before
    finally:
        lasting.stop()
        lab.end()


def _another(lasting: Connection, broken: libvirt.virConnect) -> libvirt.virConnect:
    """The handle of the next libvirtd: for a moment there is still that of the one that was killed."""
    until(lambda: lasting.handle(wait=10) is not broken, 20, "the connection is a new one")
    return lasting.handle()


def _begin_in_vain(machine: Machine) -> None:
    with contextlib.suppress(Unavailable):
        machine.begin(SLOW)


def test_a_machine_left_standing_goes_on_when_its_mirrors_are_abandoned(
    make_machine: Callable[..., Machine],
) -> None:
    machine = make_machine()
    machine.begin(SLOW)
    standstill.hold(machine.domain)
    assert machine.state is State.PAUSED
    mirror.abandon(machine.connection, machine.uuid, machine.mirrors)
    assert (machine.state, machine.is_marked, machine.jobs) == (State.RUNNING, False, 0)


def test_one_disk_is_refused(
    lasting: Connection, make_machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = make_machine(3)
    begin_and_wait(lasting, machine)
    real = libvirt.virDomain.blockJobAbort

    def ask(domain: libvirt.virDomain, disk: str, flags: int) -> int:
        if disk == "vdb":
            raise libvirt.libvirtError("no")
        return int(real(domain, disk, flags))

    with monkeypatch.context() as patch:
        patch.setattr(libvirt.virDomain, "blockJobAbort", ask)
        a, b, c = machine.mirrors
        with pytest.raises(HypervisorError, match="not switched as a whole") as caught:
            machine.switch()
    for text in (f"vda is on {a.copy}", f"vdb is on {b.source}", f"vdc is on {c.source}"):
        assert text in str(caught.value)
    assert (machine.state, machine.is_marked, machine.jobs) == (State.RUNNING, False, 2)
    machine.switch()
    machine.check_moved()


def test_one_mirror_is_lost_in_a_switch(
    lasting: Connection, make_machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = make_machine(2)
    begin_and_wait(lasting, machine)
    real = libvirt.virDomain.blockJobAbort

    def ask(domain: libvirt.virDomain, disk: str, flags: int) -> int:
        # QEMU ends the second mirror instead
        return int(real(domain, disk, 0 if disk == "vdb" else flags))

    monkeypatch.setattr(libvirt.virDomain, "blockJobAbort", ask)
    a, b = machine.mirrors
    with pytest.raises(MirrorLost, match=f"vda is on {a.copy}, vdb is on {b.source}"):
        machine.switch()
    assert (machine.state, machine.is_marked, machine.jobs) == (State.RUNNING, False, 0)


def test_places(make_machine: Callable[..., Machine], tmp_path: Path) -> None:
    machine = make_machine()
    source = machine.mirrors[0].source
    more = tmp_path / "more.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", more, "10M"], check=True)
    hotplug.plug_disk(machine.connection, machine.uuid, DiskSpec("ua-more", more, "vdb"))
    found = {"ua-0": (source, source), "ua-more": (more, None)}
    assert mirror.places(machine.connection, machine.uuid) == found
    power.cut_off(machine.connection, machine.uuid)
    assert mirror.places(machine.connection, machine.uuid) == {"ua-0": (None, source)}
