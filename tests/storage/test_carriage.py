"""Volumes that no machine uses, carried from one libvirt to another.

Two connections to the lab's libvirt stand for two hosts: nothing of the one is used with the other.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest

from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import LibvirtError, NoVolume
from hypervisor.storage import carriage, content, offline, pool, volume
from hypervisor.storage.offline import Cancelled
from tests.storage.conftest import Pool, image_info, qemu_io

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20
FILES = ["base.qcow2", "source.qcow2"]


@pytest.fixture
def far(connection: libvirt.virConnect) -> Iterator[libvirt.virConnect]:
    """The other libvirt."""
    opened = libvirt.open(connection.getURI())
    yield opened
    opened.close()


@pytest.fixture
def old(make_pool: Callable[[Path], Pool], tmp_path: Path) -> Pool:
    """Where the volumes are."""
    return make_pool(tmp_path / "old <&'")


@pytest.fixture
def overlay(old: Pool) -> Path:
    """A volume on a base."""
    base = volume.create_empty(old.connection, old.name, "base.qcow2", 300)
    qemu_io(base, "write -P 7 0 100M")
    made = volume.create_overlay(old.connection, old.name, "source.qcow2", 300, base)
    qemu_io(made, "write -P 8 100M 100M")
    return made


def empty(old: Pool, form: str, name: str) -> Path:
    if form == "qcow2":
        return volume.create_empty(old.connection, old.name, name, 300)
    file = old.path.parent / "empty"
    file.touch()
    os.truncate(file, 300 * MIB)
    return volume.upload(old.connection, old.name, name, file, "raw")


def plain(old: Pool, form: str) -> Path:
    """A volume without a base."""
    made = empty(old, form, "plain")
    qemu_io(made, "write -P 7 0 100M", "write -P 8 100M 100M", form=form)
    return made


class Reports:
    """How far a copy is, as it tells; does something when a share of it is done."""

    def __init__(self, action: Callable[[], object] = lambda: None, after: float = 0.0) -> None:
        self.seen: list[tuple[int, int]] = []
        self._action, self._after, self._done = action, after, False

    def __call__(self, done: int, total: int) -> None:
        self.seen.append((done, total))
        if done > self._after * total and not self._done:
            self._done = True
            self._action()

    def check(self, size: int) -> None:
        assert self.seen == sorted(self.seen)
        assert (self.seen[0], self.seen[-1]) == ((0, size), (size, size))


def carry(
    near: Pool,
    source: Path,
    far: libvirt.virConnect,
    target: Path,
    *,
    form: str = "qcow2",
    reports: Reports | None = None,
    cancelled: threading.Event | None = None,
) -> None:
    carriage.carry(
        near.connection, source, form, far, target, reports or Reports(), cancelled or threading.Event()
    )


def check(target: Path, form: str = "qcow2") -> None:
    qemu_io(target, "read -P 7 0 100M", "read -P 8 100M 100M", "read -P 0 200M 100M", form=form)
    info = image_info(target)
    assert "backing-filename" not in info
    assert (info["format"], info["virtual-size"]) == (form, 300 * MIB)
    if form == "qcow2":
        subprocess.run(["qemu-img", "check", "-q", target], check=True)


def taken(file: Path) -> int:
    return file.stat().st_blocks * 512


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_a_volume(old: Pool, place: Pool, far: libvirt.virConnect, form: str) -> None:
    source = plain(old, form)
    target = volume.create_twin(place.connection, place.name, "-target", form, old.name, "plain")
    qemu_io(target, "write -P 99 0 300M", form=form)
    for _ in range(2):
        reports = Reports()
        carry(old, source, far, target, form=form, reports=reports)
        check(target, form)
        reports.check(300 * MIB)
        assert len({done for done, _ in reports.seen}) > 100
    assert target.stat().st_size == source.stat().st_size
    assert target.stat().st_mode & 0o777 == 0o600
    # the libvirt of the target knows at once what is there
    _, capacity, allocation = far.storageVolLookupByPath(str(target)).info()
    assert capacity == 300 * MIB
    assert 200 * MIB <= allocation <= 201 * MIB
    assert place.files == ["-target"]
    assert old.files == ["plain"]
    # a volume that a machine can have
    assert volume.capacity(far, place.name, "-target") == 300
    volume.resize(far, place.name, "-target", 310)
    assert image_info(target)["virtual-size"] == 310 * MIB


@pytest.mark.long
@pytest.mark.parametrize("way", ["here", "elsewhere"])
def test_a_base_is_left_behind(
    old: Pool, place: Pool, overlay: Path, far: libvirt.virConnect, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "elsewhere":
        monkeypatch.setattr(offline, "_is_here", lambda *_: False)
    target = volume.create_empty(place.connection, place.name, "-target", 300)
    for _ in range(2):
        reports = Reports()
        carry(old, overlay, far, target, reports=reports)
        check(target)
        reports.check(300 * MIB)
        assert old.files == pool.volumes(old.connection, old.name) == FILES
    # what was made whole is as good as the volume
    carry(old, target, far, old.path / "again")
    check(old.path / "again")


@pytest.mark.long
def test_holes_stay_holes(old: Pool, place: Pool, far: libvirt.virConnect) -> None:
    for form in ("raw", "qcow2"):
        source = empty(old, form, form)
        # behind windows that are wholly a hole; nothing at the end
        qemu_io(source, "write -P 5 201M 3M", "write -P 6 290M 64k", form=form)
        if form == "qcow2":
            # the guest gives space back, which leaves holes in the file
            qemu_io(source, "write -P 7 0 150M", form=form)
            subprocess.run(
                ["qemu-io", "-d", "unmap", "-f", form, "-c", "discard 1M 148M", source],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            assert source.stat().st_size > 140 * MIB
        target = place.path / form
        carry(old, source, far, target, form=form)
        qemu_io(
            target,
            "read -P 0 1M 148M",
            "read -P 5 201M 3M",
            "read -P 6 290M 64k",
            "read -P 0 291M 9M",
            form=form,
        )
        assert taken(target) <= taken(source) < 7 * MIB
        assert target.stat().st_size == source.stat().st_size


@pytest.mark.long
def test_zeros_become_holes(old: Pool, place: Pool, far: libvirt.virConnect) -> None:
    for name, end in (("zeros", bytes(MIB)), ("end", b"\0" * (MIB - 1) + b"x")):
        source = volume.upload(old.connection, old.name, name, bytes(9 * MIB) + end, "raw")
        assert taken(source) == 10 * MIB
        carry(old, source, far, place.path / name, form="raw")
        assert (place.path / name).read_bytes() == source.read_bytes()
        assert taken(place.path / name) < MIB


@pytest.mark.long
@pytest.mark.parametrize("after", [0.0, 0.25, 0.5, 0.75])
def test_cancelled(old: Pool, place: Pool, overlay: Path, far: libvirt.virConnect, after: float) -> None:
    target = volume.create_empty(place.connection, place.name, "-target", 300)
    cancelled = threading.Event()
    begun: list[float] = []

    def cancel() -> None:
        begun.append(time.monotonic())
        cancelled.set()

    reports = Reports(cancel, after)
    with pytest.raises(Cancelled):
        carry(old, overlay, far, target, reports=reports, cancelled=cancelled)
    assert time.monotonic() - begun[0] < 1
    assert reports.seen[-1][0] < 300 * MIB
    with pytest.raises(Cancelled, match=r"source\.qcow2: cancelled"):
        carry(old, overlay, far, target, cancelled=cancelled)
    assert old.files == FILES
    carry(old, overlay, far, target)
    check(target)


@pytest.mark.parametrize("after", [0.25, 0.75])
def test_an_error_in_a_report_ends_the_copy(
    old: Pool, place: Pool, overlay: Path, far: libvirt.virConnect, after: float
) -> None:
    with pytest.raises(ZeroDivisionError):
        carry(old, overlay, far, place.path / "t", reports=Reports(lambda: 1 // 0, after))
    assert old.files == FILES


@pytest.mark.long
@pytest.mark.parametrize("after", [0.2, 0.75])
@pytest.mark.parametrize("way", ["here", "elsewhere"])
def test_repeated_after_a_kill(
    old: Pool, place: Pool, overlay: Path, far: libvirt.virConnect, after: float, way: str
) -> None:
    target = volume.create_empty(place.connection, place.name, "-target", 300)
    code = (
        "import os, sys, threading, libvirt\n"
        "from pathlib import Path\n"
        "from hypervisor.storage import carriage, offline, volume\n"
        "after, way, a, b = sys.argv[1:]\n"
        "def report(done, total):\n"
        "    if done > float(after) * total: os.kill(os.getpid(), 9)\n"
        "if way == 'elsewhere':\n"
        "    offline._is_here = lambda *_: False\n"
        "    if after == '0.2':  # libvirt tells nothing: in the middle of its call\n"
        "        begin = volume.create_copy\n"
        "        def create_copy(*arguments):\n"
        "            threading.Timer(0.1, lambda: os.kill(os.getpid(), 9)).start()\n"
        "            return begin(*arguments)\n"
        "        volume.create_copy = create_copy\n"
        "near, far = (libvirt.open('qemu:///system') for _ in range(2))\n"
        "carriage.carry(near, Path(a), 'qcow2', far, Path(b), report, threading.Event())\n"
    )
    command = [sys.executable, "-c", code, str(after), way, str(overlay), str(target)]
    for repeated in (True, False):
        assert subprocess.run(command, check=False, cwd=ROOT).returncode == -signal.SIGKILL
        assert "source.qcow2.whole" in old.files
        if repeated:
            carry(old, overlay, far, target)
        else:
            carriage.clear(old.connection, overlay)
        assert old.files == pool.volumes(old.connection, old.name) == FILES
    carry(old, overlay, far, target)
    check(target)


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_no_space(old: Pool, small: Pool, far: libvirt.virConnect, form: str) -> None:
    target = small.path / "-target"
    with pytest.raises(
        HypervisorError, match=rf"^copy of plain: no space left in storage pool {small.name}: free some there"
    ):
        carry(old, plain(old, form), far, target, form=form)
    volume.delete(far, small.name, "-target")
    assert small.files == []


@pytest.mark.parametrize("missing", [1, 4096, 65536, content.CHUNK, content.CHUNK + 1, MIB])
def test_no_space_for_the_end(old: Pool, small: Pool, far: libvirt.virConnect, missing: int) -> None:
    # what stays free when nothing is there but the volume's file
    room = os.statvfs(small.path).f_bavail * os.statvfs(small.path).f_frsize
    source = volume.upload(old.connection, old.name, "a", os.urandom(room), "raw")
    carry(old, source, far, small.path / "a", form="raw")
    assert (small.path / "a").read_bytes() == source.read_bytes()
    source = volume.upload(old.connection, old.name, "a", os.urandom(room + missing), "raw")
    with pytest.raises(HypervisorError, match=rf"no space left in storage pool {small.name}: free"):
        carry(old, source, far, small.path / "a", form="raw")


@pytest.mark.parametrize("way", ["here", "elsewhere"])
def test_no_space_beside_the_source(
    small: Pool, place: Pool, far: libvirt.virConnect, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "elsewhere":
        monkeypatch.setattr(offline, "_is_here", lambda *_: False)
    base = volume.create_empty(small.connection, small.name, "base.qcow2", 8)
    qemu_io(base, "write -P 7 0 2M")
    source = volume.create_overlay(small.connection, small.name, "source.qcow2", 8, base)
    with pytest.raises(HypervisorError, match=rf"no space left in storage pool {small.name}: free some"):
        carry(small, source, far, place.path / "t")
    assert small.files == FILES
    assert place.files == []


def test_a_damaged_source(old: Pool, place: Pool, overlay: Path, far: libvirt.virConnect) -> None:
    overlay.write_bytes(b"no image")
    with pytest.raises(HypervisorError, match=r"copy of source\.qcow2: .*not in qcow2 format"):
        carry(old, overlay, far, place.path / "t")
    assert place.files == []


def test_what_a_guest_wrote_is_no_image_of_ours(old: Pool, place: Pool, far: libvirt.virConnect) -> None:
    secret = old.path.parent / "secret"
    secret.write_bytes(b"secret" * 1000)
    image = old.path.parent / "image"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", image], check=True)
    source = volume.upload(old.connection, old.name, "a", image, "raw")
    carry(old, source, far, place.path / "a", form="raw")
    assert (place.path / "a").read_bytes() == image.read_bytes()


def test_no_such_volume(old: Pool, place: Pool, overlay: Path, far: libvirt.virConnect) -> None:
    with pytest.raises(NoVolume, match="copy of nothing"):
        carry(old, old.path / "nothing", far, place.path / "t")
    with pytest.raises(LibvirtError, match="storage pool in /nowhere"):
        carry(old, overlay, far, Path("/nowhere/t"))
    assert place.files == []
