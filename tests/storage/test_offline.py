"""Volumes that no machine uses, copied between pools."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import NoVolume
from hypervisor.storage import offline, volume
from hypervisor.storage.offline import Cancelled
from tests.storage.conftest import Pool, image_info, qemu_io

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20


@pytest.fixture
def old(make_pool: Callable[[Path], Pool], tmp_path: Path) -> Pool:
    """Where the volumes are."""
    return make_pool(tmp_path / "old <&'")


@pytest.fixture
def source(old: Pool) -> Path:
    """A volume on a base."""
    base = volume.create_empty(old.connection, old.name, "base.qcow2", 300)
    qemu_io(base, "write -P 7 0 100M")
    made = volume.create_overlay(old.connection, old.name, "source.qcow2", 300, base)
    qemu_io(made, "write -P 8 100M 100M")
    return made


def target_in(place: Pool, form: str = "qcow2", name: str = "-target") -> Path:
    if form == "raw":
        return volume.upload(place.connection, place.name, name, bytes(300 * MIB), "raw")
    return volume.create_empty(place.connection, place.name, name, 300)


class Reports:
    """How far a copy is, as it tells; does something at the first progress."""

    def __init__(self, action: Callable[[], object] = lambda: None) -> None:
        self.seen: list[tuple[int, int]] = []
        self._action = action

    def __call__(self, done: int, total: int) -> None:
        if done > 0 and self.seen and self.seen[-1][0] == 0:
            self._action()
        self.seen.append((done, total))


def copy(
    place: Pool,
    source: Path,
    target: Path,
    reports: Reports,
    *,
    form: str = "qcow2",
    cancelled: threading.Event | None = None,
) -> None:
    offline.copy(place.connection, source, "qcow2", target, form, reports, cancelled or threading.Event())


def check(target: Path, form: str = "qcow2") -> None:
    qemu_io(target, "read -P 7 0 100M", "read -P 8 100M 100M", "read -P 0 200M 100M", form=form)
    assert "backing-filename" not in image_info(target)


def converters() -> list[str]:
    """The copies that run on this machine."""
    return subprocess.run(
        ["pgrep", "-x", "qemu-img"], capture_output=True, text=True, check=False
    ).stdout.split()


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_a_copy(place: Pool, source: Path, form: str) -> None:
    target = target_in(place, form)
    qemu_io(target, "write -P 99 0 300M", form=form)
    for _ in range(2):
        reports = Reports()
        copy(place, source, target, reports, form=form)
        check(target, form)
        assert reports.seen == sorted(reports.seen)
        assert (reports.seen[0], reports.seen[-1]) == ((0, 300 * MIB), (300 * MIB, 300 * MIB))
        assert len({done for done, _ in reports.seen}) > 5
    # libvirt knows at once what the volume takes
    allocation = place.connection.storageVolLookupByPath(str(target)).info()[2]
    assert 200 * MIB <= allocation <= 201 * MIB
    assert target.stat().st_mode & 0o777 == 0o600


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy takes seconds on any host."""
    command = tmp_path / "bin" / "qemu-img"
    command.parent.mkdir()
    command.write_text(
        f'#!/bin/sh\n[ $1 = convert ] && shift && set -- convert -r 100M "$@"\n'
        f'exec {shutil.which("qemu-img")} "$@"\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)


@pytest.mark.usefixtures("measured")
def test_cancelled(place: Pool, source: Path) -> None:
    target = target_in(place)
    cancelled = threading.Event()
    begun: list[float] = []

    def cancel() -> None:
        assert len(converters()) == 1
        begun.append(time.monotonic())
        cancelled.set()

    reports = Reports(cancel)
    with pytest.raises(Cancelled):
        copy(place, source, target, reports, cancelled=cancelled)
    assert time.monotonic() - begun[0] < 1
    assert converters() == []
    assert reports.seen[-1][0] < 300 * MIB
    with pytest.raises(Cancelled, match=r"source\.qcow2: cancelled"):
        copy(place, source, target, Reports(), cancelled=cancelled)
    copy(place, source, target, Reports())
    check(target)


def test_an_error_in_a_report_ends_the_copy(place: Pool, source: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        copy(place, source, target_in(place), Reports(lambda: 1 // 0))
    assert converters() == []


def test_the_copy_ends_with_the_service(place: Pool, source: Path) -> None:
    target = target_in(place)
    code = (
        "import os, sys, threading, libvirt\n"
        "from pathlib import Path\n"
        "from hypervisor.storage import offline\n"
        "def report(done, total):\n"
        "    if done: os.kill(os.getpid(), 9)\n"
        "connection = libvirt.open('qemu:///system')\n"
        "a, b = map(Path, sys.argv[1:])\n"
        "offline.copy(connection, a, 'qcow2', b, 'qcow2', report, threading.Event())\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, source, target], check=False, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    # the lock on the volume is free when the copy is gone
    deadline = time.monotonic() + 1
    while converters() and time.monotonic() < deadline:
        os.sched_yield()
    copy(place, source, target, Reports())
    check(target)


def test_no_space(small: Pool, source: Path) -> None:
    target = target_in(small)
    with pytest.raises(HypervisorError, match=rf"no space left in storage pool {small.name}: free some"):
        copy(small, source, target, Reports())
    assert converters() == []
    volume.delete(small.connection, small.name, target.name)
    assert small.files == []


def test_a_disk_in_use(place: Pool, source: Path) -> None:
    target = target_in(place)
    for used in (source, target):
        with subprocess.Popen(
            ["qemu-io", "-f", "qcow2", used], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as user:
            assert user.stdin is not None and user.stdout is not None  # noqa: PT018 - both are pipes
            user.stdin.write(b"write 0 1\n")
            user.stdin.flush()
            user.stdout.readline()
            with pytest.raises(HypervisorError, match="a machine uses the disk: stop the machine or detach"):
                copy(place, source, target, Reports())
            user.stdin.close()


def test_a_damaged_source(place: Pool, source: Path) -> None:
    target = target_in(place)
    source.write_bytes(b"no image")
    with pytest.raises(HypervisorError, match=r"copy of source\.qcow2: .*not in qcow2 format"):
        copy(place, source, target, Reports())


def test_no_such_volume(place: Pool, source: Path) -> None:
    with pytest.raises(NoVolume, match=r"copy of source\.qcow2"):
        copy(place, source, place.path / "nothing", Reports())


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_libvirt_copies_what_is_out_of_reach(
    place: Pool, source: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline, "_is_here", lambda *_: False)
    target = target_in(place, form)
    reports = Reports()
    for _ in range(2):
        copy(place, source, target, reports, form=form)
        check(target, form)
    assert reports.seen == [(0, 300 * MIB), (300 * MIB, 300 * MIB)] * 2


def test_the_file_must_be_the_one_that_libvirt_means(place: Pool) -> None:
    handle = place.connection.storageVolLookupByPath(str(target_in(place)))
    assert offline._is_here(place.connection, handle, os.W_OK)
    path = Path(handle.path())
    code = (
        "import sys, os, libvirt; from hypervisor.storage import offline;"
        "c = libvirt.open('qemu:///system');"
        "print(offline._is_here(c, c.storageVolLookupByPath(sys.argv[1]), os.W_OK))"
    )
    # the kernel's file times have steps of some milliseconds: the other file is of another one
    script = (
        f"mount -t tmpfs tmpfs {path.parent} && sleep 0.1 && printf other >{path} && {sys.executable} -c "
    )
    script += f'"$1" {path}'
    said = subprocess.check_output(["unshare", "--mount", "sh", "-c", script, "sh", code], cwd=ROOT)
    assert said == b"False\n"
