"""Volumes on a real libvirt."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import libvirt
import pytest

from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import LibvirtError, NoVolume
from hypervisor.storage import content, pool, volume
from tests.storage.conftest import Pool, image_info, qemu_io

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_empty(place: Pool) -> None:
    made = volume.create_empty(place.connection, place.name, "a.qcow2", 100)
    assert made == place.path / "a.qcow2" == volume.path(place.connection, place.name, "a.qcow2")
    assert volume.capacity(place.connection, place.name, "a.qcow2") == 100
    assert made.stat().st_mode & 0o777 == 0o600
    info = image_info(made)
    assert (info["format"], info["virtual-size"]) == ("qcow2", 100 * MIB)
    assert info["format-specific"]["data"]["compat"] == "1.1"


def test_overlay_names_the_format_of_its_base(place: Pool) -> None:
    base = volume.create_empty(place.connection, place.name, "base.qcow2", 10)
    qemu_io(base, "write -P 7 0 1M")
    raw = volume.upload(place.connection, place.name, "base.raw", b"\x09" * MIB, "raw")
    for number, (below, form, pattern) in enumerate(((base, "qcow2", 7), (raw, "raw", 9))):
        made = volume.create_overlay(place.connection, place.name, f"o{number}", 20, below)
        info = image_info(made)
        assert (info["backing-filename"], info["backing-filename-format"]) == (str(below), form)
        assert volume.capacity(place.connection, place.name, f"o{number}") == 20
        qemu_io(made, f"read -P {pattern} 0 1M", "read -P 0 12M 1M")


def test_overlay_must_hold_its_base(place: Pool) -> None:
    base = volume.create_empty(place.connection, place.name, "base.qcow2", 10)
    with pytest.raises(HypervisorError, match="9 MiB are too small for its base, which needs 10 MiB"):
        volume.create_overlay(place.connection, place.name, "o", 9, base)
    with pytest.raises(NoVolume, match="base /nowhere"):
        volume.create_overlay(place.connection, place.name, "o", 10, Path("/nowhere"))
    assert place.files == ["base.qcow2"]


def test_copy_of_an_overlay_is_flat(place: Pool, make_pool: Callable[[Path], Pool], tmp_path: Path) -> None:
    other = make_pool(tmp_path / "other")
    base = volume.create_empty(place.connection, place.name, "base.qcow2", 10)
    qemu_io(base, "write -P 7 0 1M")
    overlay = volume.create_overlay(place.connection, place.name, "o.qcow2", 10, base)
    qemu_io(overlay, "write -P 8 1M 1M")
    for target in (place, other):
        made = volume.create_copy(place.connection, target.name, "copy.qcow2", 30, overlay)
        assert "backing-filename" not in image_info(made)
        assert volume.capacity(place.connection, target.name, "copy.qcow2") == 30
        qemu_io(made, "read -P 7 0 1M", "read -P 8 1M 1M", "read -P 0 29M 1M")
    smaller = volume.create_copy(place.connection, place.name, "smaller.qcow2", 5, overlay)
    assert image_info(smaller)["virtual-size"] == 10 * MIB


def test_resize(place: Pool) -> None:
    made = volume.create_empty(place.connection, place.name, "a.qcow2", 10)
    for size, expected in ((20, 20), (20, 20), (15, 20)):
        volume.resize(place.connection, place.name, "a.qcow2", size)
        assert volume.capacity(place.connection, place.name, "a.qcow2") == expected
    # as a guest's own growing does, past the pool
    subprocess.run(["qemu-img", "resize", "-q", made, "40M"], check=True)
    volume.resize(place.connection, place.name, "a.qcow2", 30)
    assert volume.capacity(place.connection, place.name, "a.qcow2") == 40


def test_what_is_not_there(place: Pool) -> None:
    for call in (volume.path, volume.capacity):
        with pytest.raises(NoVolume, match="volume a in pool"):
            call(place.connection, place.name, "a")
    with pytest.raises(NoVolume):
        volume.resize(place.connection, place.name, "a", 1)
    volume.delete(place.connection, place.name, "a")
    with pytest.raises(LibvirtError, match="storage pool nowhere"):
        volume.delete(place.connection, "nowhere", "a")


@pytest.mark.parametrize("leftover", ["volume", "unknown file", "half an upload"])
def test_made_anew_after_an_interruption(place: Pool, leftover: str) -> None:
    base = volume.create_empty(place.connection, place.name, "base.qcow2", 2)

    def interrupt() -> None:
        if leftover == "volume":
            volume.create_empty(place.connection, place.name, "a", 3)
        elif leftover == "unknown file":
            volume.delete(place.connection, place.name, "a")
            (place.path / "a").write_bytes(b"rubbish")
        else:
            volume.upload(place.connection, place.name, "a", bytes(MIB), "raw")
            stream = place.connection.newStream()
            handle = pool.lookup(place.connection, place.name)
            handle.storageVolLookupByName("a").upload(stream, 0, MIB, 0)
            stream.send(b"half")
            stream.abort()

    makes: tuple[tuple[Callable[[], Path], int], ...] = (
        (lambda: volume.create_empty(place.connection, place.name, "a", 5), 5),
        (lambda: volume.create_overlay(place.connection, place.name, "a", 6, base), 6),
        (lambda: volume.create_copy(place.connection, place.name, "a", 7, base), 7),
        (lambda: volume.upload(place.connection, place.name, "a", bytes(8 * MIB), "raw"), 8),
    )
    for make, size in makes:
        for _ in range(2):
            interrupt()
            made = make()
            assert volume.capacity(place.connection, place.name, "a") == size
            assert image_info(made)["virtual-size"] == size * MIB
    assert place.files == ["a", "base.qcow2"]


@pytest.mark.parametrize(
    "name", ["x<&'\"é", " a ", ".hidden", "-rf", "a b;c$(d)", "日本", "%s,id=x,file=etc"]
)
def test_odd_names(place: Pool, name: str) -> None:
    made = volume.create_empty(place.connection, place.name, name, 1)
    assert made == volume.path(place.connection, place.name, name) == place.path / name
    volume.upload(place.connection, place.name, name, b"content", "raw")
    volume.create_copy(place.connection, place.name, "copy", 1, made)
    volume.delete(place.connection, place.name, name)
    assert place.files == ["copy"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\nb", "a\0b", "\x1b[0m", "\ud800"])
def test_names_that_are_refused(place: Pool, name: str) -> None:
    with pytest.raises(HypervisorError, match="no name for a volume"):
        volume.create_empty(place.connection, place.name, name, 1)
    with pytest.raises(HypervisorError, match="no name for a volume"):
        volume.upload(place.connection, place.name, name, b"1", "raw")


def test_no_space_leaves_nothing(place: Pool, small: Pool) -> None:
    large = volume.create_empty(place.connection, place.name, "large.qcow2", 20)
    qemu_io(large, "write -P 7 0 16M")
    file = place.path.parent / "file"
    file.write_bytes(os.urandom(8 * MIB))
    makes: tuple[Callable[[], Path], ...] = (
        lambda: volume.create_copy(small.connection, small.name, "a", 20, large),
        lambda: volume.upload(small.connection, small.name, "a", os.urandom(8 * MIB), "raw"),
        lambda: volume.upload(small.connection, small.name, "a", file, "raw"),
        lambda: volume.upload(small.connection, small.name, "a", large, "qcow2"),
    )
    for make in makes:
        with pytest.raises(HypervisorError, match=r"volume a.*(No space left|is its pool full)"):
            make()
        assert small.files == []
        assert pool.volumes(small.connection, small.name) == []
    (small.path / "fill").write_bytes(bytes(4 * MIB - 32768))
    with pytest.raises(LibvirtError, match=r"volume a.*No space left"):
        volume.create_empty(small.connection, small.name, "a", 1)
    assert small.files == ["fill"]


@pytest.mark.parametrize("way", ["file", "stream"])
def test_upload_of_bytes(place: Pool, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "stream":
        monkeypatch.setattr(content, "write", lambda *_: False)
    for size in (0, 1, 131072, 3 * MIB + 5):
        data = os.urandom(size)
        made = volume.upload(place.connection, place.name, "a", data, "raw")
        assert digest(made.read_bytes()) == digest(data)
        assert made.stat().st_mode & 0o777 == 0o600


def test_bytes_go_only_into_the_volumes_own_file(place: Pool) -> None:
    """libvirt may be in another file system than the service, where another file bears that path."""
    code = (
        "import sys, libvirt; from hypervisor.storage import volume;"
        "volume.upload(libvirt.open('qemu:///system'), sys.argv[1], 'a', b'ours!', 'raw')"
    )
    script = f"mount -t tmpfs tmpfs {place.path} && cd {place.path} && printf other >a && "
    script += f'cd - >/dev/null && {sys.executable} -c "$1" {place.name} && cat {place.path}/a'
    said = subprocess.check_output(["unshare", "--mount", "sh", "-c", script, "sh", code], cwd=ROOT)
    assert said == b"other"
    assert (place.path / "a").read_bytes() == b"ours!"


def test_upload_of_a_sparse_file(place: Pool, tmp_path: Path) -> None:
    file = tmp_path / "sparse.raw"
    with file.open("wb") as sparse:
        for position in (0, 100 * MIB, 299 * MIB):
            sparse.seek(position)
            sparse.write(os.urandom(MIB // 2))
        sparse.truncate(400 * MIB)
    begun = time.thread_time()
    made = volume.upload(place.connection, place.name, "a", file, "raw")
    took = time.thread_time() - begun
    assert subprocess.run(["cmp", file, made], check=False).returncode == 0
    assert made.stat().st_blocks * 512 <= 2 * MIB
    # holes are neither sent nor read, which would take more than a second of this thread
    assert took < 0.2


def test_upload_of_a_qcow2_image(place: Pool, tmp_path: Path) -> None:
    file = tmp_path / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", file, "50M"], check=True)
    qemu_io(file, "write -P 7 0 3M", "write -P 8 40M 1M")
    made = volume.upload(place.connection, place.name, "a.qcow2", file, "qcow2")
    assert made.read_bytes()[: file.stat().st_size] == file.read_bytes()
    # known at once, not when the pool is read the next time
    assert volume.capacity(place.connection, place.name, "a.qcow2") == 50
    copy = volume.create_copy(place.connection, place.name, "copy.qcow2", 60, made)
    qemu_io(copy, "read -P 7 0 3M", "read -P 8 40M 1M")
    volume.upload(place.connection, place.name, "b.qcow2", file.read_bytes(), "qcow2")
    pool.refresh(place.connection, place.name)
    assert volume.capacity(place.connection, place.name, "b.qcow2") == 50


@pytest.mark.parametrize("data", [b"", b"short", b"no image at all, but long enough to be one"])
def test_upload_refuses_what_is_no_image(place: Pool, data: bytes) -> None:
    with pytest.raises(HypervisorError, match="no disk image of format qcow2"):
        volume.upload(place.connection, place.name, "a", data, "qcow2")
    with pytest.raises(HypervisorError, match=r"upload of volume a: .*No such file"):
        volume.upload(place.connection, place.name, "a", Path("/nowhere"), "qcow2")
    assert place.files == []


def test_many_at_once(place: Pool) -> None:
    base = volume.create_empty(place.connection, place.name, "base.qcow2", 10)
    qemu_io(base, "write -P 7 0 8M")

    def work(number: int) -> None:
        name = f"v{number}"
        volume.create_overlay(place.connection, place.name, name, 10, base)
        volume.upload(place.connection, place.name, f"seed{number}", os.urandom(131072), "raw")
        volume.create_copy(place.connection, place.name, f"copy{number}", 10, base)
        pool.free(place.connection, place.name)
        volume.delete(place.connection, place.name, f"seed{number}")
        pool.refresh(place.connection, place.name)

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(work, range(20)))
    expected = sorted(["base.qcow2", *(f"{kind}{number}" for kind in ("v", "copy") for number in range(20))])
    assert place.files == expected == pool.volumes(place.connection, place.name)


def test_a_volume_that_is_still_being_made_is_waited_for(place: Pool) -> None:
    """libvirt goes on making it although the service that asked for it was killed."""
    base = volume.create_empty(place.connection, place.name, "base.qcow2", 300)
    qemu_io(base, "write -P 7 0 200M")

    def killed() -> None:
        connection = libvirt.open("qemu:///system")
        volume.create_copy(connection, place.name, "a", 300, base)

    with ThreadPoolExecutor() as threads:
        first = threads.submit(killed)
        while not (place.path / "a").exists():
            time.sleep(0.001)
        assert volume.create_empty(place.connection, place.name, "a", 5) == place.path / "a"
        first.exception(10)
    assert volume.capacity(place.connection, place.name, "a") == 5
