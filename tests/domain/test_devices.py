"""Disks of running machines, copied and grown."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import libvirt
import pytest

from hypervisor.connection import Connection
from hypervisor.domain import copy as copying
from hypervisor.domain import devices, hotplug, jobs, monitor, power
from hypervisor.domain.live import mirror_of
from hypervisor.domain.spec import DiskSpec, DomainSpec
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import LibvirtError, NoDomain, Unavailable
from tests.connection.daemon import OwnLab
from tests.connection.relay import Relay
from tests.domain.conftest import NewSpec
from tests.service.waiting import until

pytestmark = pytest.mark.lab


def image(file: Path, *commands: str, size: str = "100M") -> Path:
    """Make a qcow2 image."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", file, size], check=True)
    if commands:
        qemu_io(file, *commands)
    return file


def qemu_io(file: Path, *commands: str) -> None:
    """Read or write in an image; reading checks the pattern."""
    arguments = [part for command in commands for part in ("-c", command)]
    subprocess.run(["qemu-io", "-f", "qcow2", *arguments, file], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    base = image(tmp_path / "base.qcow2", "write -P 7 0 20M")
    overlay = tmp_path / "source <&'.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, overlay], check=True
    )
    qemu_io(overlay, "write -P 8 20M 20M")
    return overlay


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return image(tmp_path / "target <&'.qcow2")


@pytest.fixture
def running(connection: libvirt.virConnect, new_spec: NewSpec, source: Path, tmp_path: Path) -> DomainSpec:
    """A machine with two disks, the second of which is `source`."""
    first = DiskSpec("ua-first", image(tmp_path / "first.qcow2"), "vda")
    spec = new_spec(disks=(first, DiskSpec("ua-second", source, "vdb")))
    power.define(connection, spec)
    power.start(connection, spec.uuid)
    return spec


def job_count(connection: libvirt.virConnect, uuid: str) -> int:
    return str(power.lookup(connection, uuid).XMLDesc()).count("<mirror")


@pytest.fixture
def midway(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Do something once while a copy runs."""

    def arrange(action: Callable[[], Any]) -> None:
        real, done = copying._next, threading.Event()

        def looked(reports: Any) -> int | None:
            if not done.is_set():
                done.set()
                action()
            return real(reports)

        monkeypatch.setattr(copying, "_next", looked)

    return arrange


def test_a_copy_is_whole_and_independent(
    connection: libvirt.virConnect, running: DomainSpec, source: Path, target: Path
) -> None:
    for _ in range(2):
        devices.copy_disk(connection, running.uuid, source, target)
        assert job_count(connection, running.uuid) == 0
        qemu_io(target, "read -P 7 0 20M", "read -P 8 20M 20M", "read -P 0 40M 60M")
    described = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", target]))
    assert "backing-filename" not in described
    assert power.read(connection, running.uuid) == running


def test_a_paused_machine_is_copied_too(
    connection: libvirt.virConnect, running: DomainSpec, source: Path, target: Path
) -> None:
    power.lookup(connection, running.uuid).suspend()
    devices.copy_disk(connection, running.uuid, source, target)
    qemu_io(target, "read -P 7 0 20M")


def start_job(connection: libvirt.virConnect, uuid: str, file: Path) -> None:
    power.lookup(connection, uuid).blockCopy(
        "vdb",
        f"<disk type='file'><source file=\"{str(file).replace('&', '&amp;').replace('<', '&lt;')}\"/>"
        "<driver type='qcow2'/></disk>",
        {"bandwidth": 2**20},
        jobs.FLAGS,
    )


@pytest.mark.parametrize("to", ["the same volume", "a file that is gone"])
def test_a_leftover_job_is_ended(
    connection: libvirt.virConnect, running: DomainSpec, source: Path, target: Path, to: str
) -> None:
    file = target if to == "the same volume" else image(target.parent / "gone.qcow2")
    start_job(connection, running.uuid, file)
    if file != target:
        file.unlink()
    devices.copy_disk(connection, running.uuid, source, target)
    qemu_io(target, "read -P 7 0 20M")


def test_a_foreign_job_is_left_alone(
    connection: libvirt.virConnect, running: DomainSpec, source: Path, target: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    start_job(connection, running.uuid, image(elsewhere / "other.qcow2"))
    with pytest.raises(HypervisorError, match=r"virsh blockjob test-\S+ vdb --abort"):
        devices.copy_disk(connection, running.uuid, source, target, patience=0)
    assert job_count(connection, running.uuid) == 1
    domain = power.lookup(connection, running.uuid)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(devices.copy_disk, connection, running.uuid, source, target)
        domain.blockJobAbort("vdb")
        waiting.result(20)


def test_the_machine_dies(
    connection: libvirt.virConnect,
    running: DomainSpec,
    source: Path,
    target: Path,
    midway: Callable[[Callable[[], Any]], None],
) -> None:
    midway(lambda: power.cut_off(connection, running.uuid))
    begun = time.monotonic()
    with pytest.raises(HypervisorError, match=r"stopped before the copy was complete|is not running"):
        devices.copy_disk(connection, running.uuid, source, target)
    assert time.monotonic() - begun < 5


def test_the_process_of_the_machine_is_killed(
    connection: libvirt.virConnect,
    running: DomainSpec,
    source: Path,
    target: Path,
    midway: Callable[[Callable[[], Any]], None],
) -> None:
    pid = int(Path(f"/run/libvirt/qemu/{running.name}.pid").read_text())
    midway(lambda: os.kill(pid, signal.SIGKILL))
    with pytest.raises(HypervisorError):
        devices.copy_disk(connection, running.uuid, source, target)
    power.start(connection, running.uuid)
    devices.copy_disk(connection, running.uuid, source, target)


def test_somebody_ends_the_job(
    connection: libvirt.virConnect,
    running: DomainSpec,
    source: Path,
    target: Path,
    midway: Callable[[Callable[[], Any]], None],
) -> None:
    midway(lambda: power.lookup(connection, running.uuid).blockJobAbort("vdb"))
    with pytest.raises(HypervisorError, match="somebody else ended the copy"):
        devices.copy_disk(connection, running.uuid, source, target)
    assert job_count(connection, running.uuid) == 0


def test_the_disk_leaves(
    connection: libvirt.virConnect,
    new_spec: NewSpec,
    source: Path,
    target: Path,
    tmp_path: Path,
    midway: Callable[[Callable[[], Any]], None],
) -> None:
    """As when a guest obeys an earlier order in the middle of a copy."""
    spec = new_spec(disks=(DiskSpec("ua-first", image(tmp_path / "first.qcow2"), "vda"),))
    power.define(connection, spec)
    power.start(connection, spec.uuid)
    hotplug.plug_disk(connection, spec.uuid, DiskSpec("ua-second", source, "vdb"))
    domain = power.lookup(connection, spec.uuid)

    def leave() -> None:
        # there is no system that would obey, but a reset does what waits
        monitor.ask(domain, "device_del", id="ua-second")
        domain.reset()
        until(lambda: "ua-second" not in hotplug.plugged(connection, spec.uuid), 10, "the disk is gone")

    midway(leave)
    with pytest.raises(HypervisorError):
        devices.copy_disk(connection, spec.uuid, source, target)
    process = Path(f"/run/libvirt/qemu/{spec.name}.pid").read_text()
    kept = {str(source), str(target)}
    opened = Path(f"/proc/{process}/fd")
    until(lambda: not kept & {str(one.readlink()) for one in opened.iterdir()}, 10, "both files are closed")


def test_no_space(connection: libvirt.virConnect, running: DomainSpec, source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    try:
        target = image(folder / "target.qcow2")
        with pytest.raises(HypervisorError, match="is there space in the pool"):
            devices.copy_disk(connection, running.uuid, source, target)
        assert job_count(connection, running.uuid) == 0
        assert power.state(connection, running.uuid) is power.State.RUNNING
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_nothing_moves(
    connection: libvirt.virConnect,
    running: DomainSpec,
    source: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # a job that never gets ready
    monkeypatch.setattr(copying, "_next", lambda _: time.sleep(0.05))

    def unready(domain: libvirt.virDomain, name: str) -> Any:
        found = mirror_of(domain, name)
        if found is not None:
            found.attrib.pop("ready", None)
        return found

    monkeypatch.setattr(copying, "mirror_of", unready)
    with pytest.raises(HypervisorError, match="did not move for 0 seconds"):
        devices.copy_disk(connection, running.uuid, source, target, patience=0.5)
    assert job_count(connection, running.uuid) == 0


def test_reports_that_are_lost(
    connection: libvirt.virConnect,
    running: DomainSpec,
    source: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a report of the end nobody knows that the copy is whole."""
    monkeypatch.setattr(copying, "_next", lambda _: time.sleep(0.1))
    with pytest.raises(HypervisorError, match="QEMU ended the copy"):
        devices.copy_disk(connection, running.uuid, source, target)
    assert job_count(connection, running.uuid) == 0


def test_the_connection_breaks(
    connection: libvirt.virConnect,
    running: DomainSpec,
    source: Path,
    target: Path,
    midway: Callable[[Callable[[], Any]], None],
    tmp_path: Path,
) -> None:
    relay = Relay(tmp_path / "socket", "/run/libvirt/libvirt-sock")
    lasting = Connection(relay.uri)
    lasting.start()
    try:
        midway(relay.cut)
        with pytest.raises(Unavailable, match="connection to libvirt broke"):
            devices.copy_disk(lasting.handle(wait=10), running.uuid, source, target)
        assert job_count(connection, running.uuid) == 0
        devices.copy_disk(lasting.handle(wait=10), running.uuid, source, target)
    finally:
        lasting.stop()
        relay.close()


def test_libvirtd_is_killed(
    source: Path, target: Path, tmp_path: Path, midway: Callable[[Callable[[], Any]], None]
) -> None:
    lab = OwnLab(f"test-copy-{os.getpid()}", tmp_path / "lab")
    lab.start()
    lasting = Connection(lab.uri)
    lasting.start()
    try:
        uuid = "5a7b1c9e-52a0-4f0a-9d5c-0123456789ab"
        spec = DomainSpec(uuid, "killed", 1, 1, 64, 64, False, disks=(DiskSpec("ua-d", source, "vda"),))
        power.define(lasting.handle(wait=10), spec)
        power.start(lasting.handle(), uuid)
        midway(lambda: lab.signal(signal.SIGKILL))
        with pytest.raises(Unavailable):
            devices.copy_disk(lasting.handle(), uuid, source, target)
        assert job_count(lasting.handle(wait=10), uuid) == 0
        devices.copy_disk(lasting.handle(wait=10), uuid, source, target)
        qemu_io(target, "read -P 7 0 20M")
    finally:
        lasting.stop()
        lab.end()


def test_what_cannot_be_copied(
    connection: libvirt.virConnect, running: DomainSpec, machine: DomainSpec, source: Path, target: Path
) -> None:
    with pytest.raises(HypervisorError, match="does not use /nowhere"):
        devices.copy_disk(connection, running.uuid, Path("/nowhere"), target)
    with pytest.raises(HypervisorError, match="does not use"):
        devices.copy_disk(connection, machine.uuid, source, target)
    with pytest.raises(NoDomain):
        devices.copy_disk(connection, "00000000-0000-4000-8000-000000000000", source, target)
    with pytest.raises(LibvirtError, match=f"copy of {source.name}.*nowhere"):
        devices.copy_disk(connection, running.uuid, source, Path("/nowhere"))
    assert job_count(connection, running.uuid) == 0


def test_resize(connection: libvirt.virConnect, running: DomainSpec, source: Path) -> None:
    domain = power.lookup(connection, running.uuid)
    for size, expected in ((100, 100), (150, 150), (150, 150), (120, 150)):
        devices.resize_disk(connection, running.uuid, source, size)
        assert domain.blockInfo("vdb")[0] == expected * 2**20
    with pytest.raises(HypervisorError, match="does not use /nowhere"):
        devices.resize_disk(connection, running.uuid, Path("/nowhere"), 1)
    power.cut_off(connection, running.uuid)
    with pytest.raises(LibvirtError, match="not running"):
        devices.resize_disk(connection, running.uuid, source, 200)
