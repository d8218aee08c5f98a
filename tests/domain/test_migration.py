"""Running guests moved to another host."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import libvirt
import pytest

from api.settings import Settings
from hypervisor.connection import Connection
from hypervisor.domain import power
from hypervisor.domain.check import SpecError
from hypervisor.domain.migration import (
    MachineStopped,
    MigrationFailed,
    Move,
    Place,
    Transfer,
    begin,
    check,
    mirrors,
    settle,
)
from hypervisor.domain.power import State
from hypervisor.domain.spec import DiskSpec, DomainSpec, InterfaceSpec
from hypervisor.errors import HypervisorError
from hypervisor.events import Event, Kind
from hypervisor.seed import Seed, build_iso
from hypervisor.storage import pool, volume
from tests.connection.daemon import ROOT
from tests.domain import second_host
from tests.domain.conftest import NETWORK, NewSpec
from tests.domain.moving import Guest, counted, pinged
from tests.domain.second_host import SecondHost
from tests.service.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.guest]

SEED = build_iso(Seed("i-1", "moving"))


@dataclass
class Side:
    """One of the two hosts."""

    lasting: Connection
    network: str
    address: str
    pool: str
    folder: Path

    @property
    def handle(self) -> libvirt.virConnect:
        """Its libvirt."""
        return self.lasting.handle(wait=30)

    def state(self, uuid: str) -> State:
        """The domain's state on it."""
        return power.state(self.handle, uuid)


@pytest.fixture(scope="module")
def second(
    lasting: Connection, network: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecondHost]:
    """The second host, on the same network."""
    assert network
    lasting.handle(wait=10)
    with second_host.second_host(tmp_path_factory.mktemp("second"), "td-bridge") as host:
        yield host


@pytest.fixture
def here(lasting: Connection, second: SecondHost, tmp_path: Path) -> Iterator[Side]:
    """The lab."""
    assert second
    yield from _side(Side(lasting, NETWORK, second_host.HERE, "test-here", tmp_path / "here"))


@pytest.fixture
def there(second: SecondHost, tmp_path: Path) -> Iterator[Side]:
    """The second host."""
    name = second_host.NETWORK
    yield from _side(Side(second.lasting, name, second_host.THERE, "test-there", tmp_path / "there"))


def _side(side: Side) -> Iterator[Side]:
    pool.ensure(side.handle, side.pool, side.folder)
    yield side
    handle = pool.lookup(side.handle, side.pool)
    handle.destroy()
    handle.undefine()


class World:
    """A guest that runs on one host, and its move to the other."""

    def __init__(self, source: Side, target: Side, spec: DomainSpec) -> None:
        self.source = source
        self.target = target
        self.spec = spec
        self.uuid = spec.uuid
        self.guest = Guest(spec.uuid, [disk.target for disk in spec.disks[1:] if not disk.readonly])
        power.define(source.handle, spec)
        power.start(source.handle, spec.uuid)
        self.boot_id = self.guest.work(source.handle)

    def move(self, bandwidth: int = 0) -> Move:
        """The move, with new volumes on the target."""
        disks, handle = [], self.target.handle
        for disk in self.spec.disks:
            name = disk.path.name
            if disk.readonly:
                path = volume.upload(handle, self.target.pool, name, SEED, "raw")
            else:
                size = volume.capacity(self.source.handle, self.source.pool, name)
                path = volume.create_empty(handle, self.target.pool, name, size)
            disks.append(replace(disk, path=path))
        spec = replace(
            self.spec,
            disks=tuple(disks),
            interfaces=tuple(replace(one, network=self.target.network) for one in self.spec.interfaces),
            console_log=self.target.folder / "console.log",
            labels={"vm": "1", "moved": "yes"},
        )
        return Move(spec, self.target.address, bandwidth)

    def begin(self, bandwidth: int = 0) -> Transfer:
        """Begin to move it."""
        return begin(self.source.handle, self.target.handle, self.move(bandwidth))

    def settle(self) -> Place:
        """Settle it, twice."""
        place = settle(self.source.handle, self.target.handle, self.uuid)
        assert settle(self.source.handle, self.target.handle, self.uuid) is place
        return place

    def copies(self) -> bool:
        """Whether a copy has begun."""
        domain = power.lookup(self.source.handle, self.uuid)
        return any(mirror.copied for mirror in mirrors.mirrors(domain))

    def is_only_on_source(self) -> None:
        """It runs where it was and writes on, as if nothing had been; nothing is left on the target."""
        handle = self.source.handle
        assert self.source.state(self.uuid) is State.RUNNING
        assert self.target.state(self.uuid) is State.ABSENT
        assert power.read(handle, self.uuid) == self.spec
        domain = power.lookup(handle, self.uuid)
        assert mirrors.mirrors(domain) == []
        assert "<mirror" not in domain.XMLDesc()
        assert domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE
        self.writes_on(handle)

    def is_only_on_target(self) -> None:
        """It runs there and writes on; nothing is left on the source."""
        handle = self.target.handle
        assert self.source.state(self.uuid) is State.ABSENT
        assert self.target.state(self.uuid) is State.RUNNING
        for spec in (power.read(handle, self.uuid), power.read_live(handle, self.uuid)):
            assert {disk.path.parent for disk in spec.disks} == {self.target.folder}
            assert spec.labels["moved"] == "yes"
            assert spec.interfaces[0].network == self.target.network
        self.writes_on(handle)

    def writes_on(self, handle: libvirt.virConnect) -> None:
        """It counts further."""
        before = self.guest.written(handle)
        until(lambda: self.guest.written(handle) > before, 20, "the guest writes on")

    def end(self, side: Side, folder: Path) -> None:
        """Let it end on that host, and look at what it has written: whole, and in one boot."""
        assert self.guest.finish(side.handle) == self.boot_id
        counts = [
            counted(side.folder / disk.path.name, folder, "" if number else "/root", partition=number == 0)
            for number, disk in enumerate(self.spec.disks)
            if not disk.readonly
        ]
        print(f"counted to {counts}")
        assert 0 < min(counts) == max(counts)


NewWorld = Callable[..., World]


@pytest.fixture
def new_world(here: Side, there: Side, new_spec: NewSpec, tmp_path: Path) -> Iterator[NewWorld]:
    """A guest that writes to so many disks and answers; on the lab, or on the second host."""
    image = Settings().images / "tiny.qcow2"
    if not image.exists():
        pytest.skip(f"there is no {image}: make image")
    made: list[World] = []

    def make(count: int = 2, source: Side = here, target: Side = there) -> World:
        spec, handle = new_spec(memory=192, max_memory=192), source.handle
        base = volume.upload(handle, source.pool, "base", image, "qcow2")
        paths = [volume.create_overlay(handle, source.pool, "disk-0", 160, base)]
        paths += [volume.create_empty(handle, source.pool, f"disk-{one}", 32) for one in range(1, count)]
        disks = [
            DiskSpec(f"ua-{one}", path, f"vd{'abc'[one]}", boot=None if one else 1, serial=f"d{one}")
            for one, path in enumerate(paths)
        ]
        seed = volume.upload(handle, source.pool, "seed", SEED, "raw")
        spec = replace(
            spec,
            disks=(*disks, DiskSpec("ua-seed", seed, "vdz", format="raw", readonly=True)),
            interfaces=(InterfaceSpec("ua-card", "52:54:00:98:07:0a", source.network),),
            console_log=tmp_path / "console.log",
        )
        made.append(World(source, target, spec))
        return made[-1]

    yield make
    for one in made:
        for side in (here, there):
            power.undefine(side.handle, one.uuid)


@pytest.fixture
def world(new_world: NewWorld) -> World:
    """A guest with two disks, on the lab."""
    return new_world()


def held(transfer: Transfer) -> None:
    """Wait until the copies are in step."""
    until(lambda: transfer.progress().ready, 60, lambda: f"ready: {transfer.progress()}")


@pytest.mark.long
def test_moved_while_it_runs(new_world: NewWorld, there: Side, tmp_path: Path) -> None:
    world = new_world(3)
    with pinged() as gaps:
        begun = time.monotonic()
        transfer = world.begin()
        held(transfer)
        copied, seen = time.monotonic() - begun, transfer.progress()
        assert not transfer.wait(3)
        world.writes_on(world.source.handle)
        assert transfer.progress().ready
        begun = time.monotonic()
        transfer.finalise()
        assert transfer.wait(60)
        took = time.monotonic() - begun
        world.is_only_on_target()
    print(f"{seen} after {copied:.1f} s; switched in {took:.2f} s; longest gap {gaps.longest:.2f} s")
    assert gaps.longest < 1
    world.end(there, tmp_path)
    assert "tiny: poweroff" in (there.folder / "console.log").read_text()


@pytest.mark.long
def test_cancelled_while_copying_and_while_held(world: World, here: Side, tmp_path: Path) -> None:
    for bandwidth, wait in ((2, lambda _: until(world.copies, 60, "it copies")), (0, held)):
        transfer = world.begin(bandwidth)
        wait(transfer)
        transfer.cancel()
        for call in (transfer.progress, transfer.wait):
            with pytest.raises(MigrationFailed, match="cancelled"):
                call()
        world.is_only_on_source()
    assert world.settle() is Place.SOURCE
    world.is_only_on_source()
    world.end(here, tmp_path)


@pytest.mark.long
def test_the_guest_powers_off_while_held(
    new_world: NewWorld, here: Side, there: Side, second: SecondHost
) -> None:
    world = new_world(source=there, target=here)
    transfer = world.begin()
    held(transfer)
    world.guest.power_off(there.handle)
    # libvirt 9.0 reports it, or waits for ever, or crashes
    with pytest.raises(MigrationFailed, match=r"stopped while it was moved|libvirtd run") as failure:
        transfer.wait(60)
    print(failure.value)
    assert world.settle() is Place.SOURCE
    assert (there.state(world.uuid), here.state(world.uuid)) == (State.OFF, State.ABSENT)
    with pytest.raises(MachineStopped, match="does not run"):
        check(there.handle, here.handle, world.move())
    if "libvirtd run" not in str(failure.value):
        restart_libvirtd(second)
    power.start(there.handle, world.uuid)
    world.boot_id = world.guest.boot_id(there.handle)
    transfer = world.begin()
    held(transfer)
    transfer.finalise()
    assert transfer.wait(60)
    assert (there.state(world.uuid), here.state(world.uuid)) == (State.ABSENT, State.RUNNING)
    assert world.guest.boot_id(here.handle) == world.boot_id


def restart_libvirtd(second: SecondHost) -> None:
    """Kill the second host's libvirtd, and wait until it is back."""
    back = threading.Event()
    with second.lasting.events.subscribed(lambda event: back.set() if event.kind is Kind.RESYNC else None):
        second.lab.signal(signal.SIGKILL)
        assert back.wait(30)


@pytest.mark.long
def test_the_target_s_libvirtd_is_killed(
    world: World, second: SecondHost, here: Side, tmp_path: Path
) -> None:
    transfer = world.begin(2)
    until(world.copies, 60, "it copies")
    second.lab.signal(signal.SIGKILL)
    with pytest.raises(MigrationFailed, match=r"target's libvirtd went away.*repeat"):
        transfer.wait(60)
    assert world.settle() is Place.SOURCE
    world.is_only_on_source()
    world.end(here, tmp_path)


@pytest.mark.long
def test_the_source_s_libvirtd_is_killed_while_it_holds(
    new_world: NewWorld, here: Side, there: Side, second: SecondHost, tmp_path: Path
) -> None:
    world = new_world(source=there, target=here)
    transfer = world.begin()
    held(transfer)
    second.lab.signal(signal.SIGKILL)
    with pytest.raises(MigrationFailed, match="both hosts' libvirtd run, then repeat"):
        transfer.wait(60)
    assert world.settle() is Place.SOURCE
    world.is_only_on_source()
    world.end(there, tmp_path)


@pytest.mark.long
def test_no_space_on_the_target(
    world: World, second: SecondHost, here: Side, there: Side, tmp_path: Path
) -> None:
    small = replace(there, pool="test-small", folder=tmp_path / "small")
    small.folder.mkdir()
    # in its namespace only, and gone with it
    second.run("mount", "-t", "tmpfs", "-o", "size=16m", "small", str(small.folder))
    try:
        pool.ensure(small.handle, small.pool, small.folder)
        world.target = small
        with pytest.raises(MigrationFailed, match=r"pool has space.*repeat"):
            world.begin().wait(60)
        assert world.settle() is Place.SOURCE
        world.is_only_on_source()
        world.end(here, tmp_path)
    finally:
        handle = pool.lookup(small.handle, small.pool)
        handle.destroy()
        handle.undefine()


@contextmanager
def mover(world: World, bandwidth: int = 0) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that moves the guest."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.domain.mover"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdin is not None
            uris = (world.source.handle.getURI(), world.target.handle.getURI())
            process.stdin.write(pickle.dumps((*uris, world.move(bandwidth))))
            process.stdin.flush()
            assert next_line(process) == b"begun\n"
            yield process
        finally:
            process.kill()


def next_line(process: "subprocess.Popen[bytes]") -> bytes:
    """What the process says next."""
    assert process.stdout is not None
    return process.stdout.readline()


def killed_while_copying(world: World) -> None:
    with mover(world, 2):
        until(world.copies, 60, "it copies")


def killed_while_held(world: World) -> None:
    with mover(world) as process:
        assert next_line(process) == b"held\n"


def killed_at(side: str, kind: Kind) -> Callable[[World], None]:
    """Kill the mover at the moment when the domain on that side of the move reports that."""

    def kill(world: World) -> None:
        with mover(world) as process:
            killed = threading.Event()

            def look(event: Event) -> None:
                if event.uuid == world.uuid and event.kind is kind:
                    os.kill(process.pid, signal.SIGKILL)
                    killed.set()

            host: Side = getattr(world, side)
            with host.lasting.events.subscribed(look):
                assert next_line(process) == b"held\n"
                assert process.stdin is not None
                process.stdin.write(b"\n")
                process.stdin.flush()
                assert killed.wait(30)

    return kill


@pytest.mark.long
@pytest.mark.parametrize(
    ("kill", "expected"),
    [
        pytest.param(killed_while_copying, {Place.SOURCE}, id="copying"),
        pytest.param(killed_while_held, {Place.SOURCE}, id="held"),
        pytest.param(killed_at("source", Kind.SUSPENDED), {*Place} - {Place.NOWHERE}, id="switching"),
        pytest.param(killed_at("target", Kind.RESUMED), {Place.TARGET}, id="arriving"),
    ],
)
def test_settled_after_the_mover_was_killed(
    world: World, kill: Callable[[World], None], expected: set[Place], here: Side, there: Side, tmp_path: Path
) -> None:
    kill(world)
    place = world.settle()
    print(f"settled at {place}")
    assert place in expected
    if place is Place.SOURCE:
        world.is_only_on_source()
        world.end(here, tmp_path)
    else:
        world.is_only_on_target()
        world.end(there, tmp_path)


def test_refused_before_anything_is_touched(world: World) -> None:
    move, source, target = world.move(), world.source.handle, world.target.handle
    spec = move.target_spec
    check(source, target, move)
    with pytest.raises(MigrationFailed, match="same host"):
        check(source, source, move)
    for address in ("", "10.0.0.1/8", "a b", "-x"):
        with pytest.raises(SpecError, match="neither an IP address nor a host name"):
            check(source, target, replace(move, address=address))
    wrong = [
        (replace(spec, disks=spec.disks[1:]), "does not run as it is described"),
        (replace(spec, name="other"), "does not run as it is described"),
        (
            replace(spec, interfaces=(replace(spec.interfaces[0], network="none"),)),
            "network none on the target",
        ),
        (replace(spec, disks=(replace(spec.disks[0], path=Path("/none")), *spec.disks[1:])), "volume /none"),
    ]
    for other, text in wrong:
        with pytest.raises(HypervisorError, match=text):
            begin(source, target, replace(move, target_spec=other))
    volume.resize(target, world.target.pool, "disk-1", 64)
    with pytest.raises(MigrationFailed, match="make it anew"):
        check(source, target, move)
    world.move()
    power.define(target, replace(spec, uuid="00000000-0000-4000-8000-000000000001"))
    try:
        with pytest.raises(MigrationFailed, match=f"the target has a domain {spec.name}"):
            check(source, target, move)
    finally:
        power.undefine(target, "00000000-0000-4000-8000-000000000001")
    world.is_only_on_source()
    assert settle(source, target, "00000000-0000-4000-8000-000000000002") is Place.NOWHERE
