"""Pools on a real libvirt."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import libvirt
import pytest

from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import LibvirtError
from hypervisor.storage import pool, volume
from hypervisor.storage.pool import Room
from tests.storage.conftest import Pool

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]


def test_ensure_makes_the_folder_and_may_be_repeated(place: Pool) -> None:
    assert place.path.stat().st_mode & 0o7777 == 0o711
    pool.ensure(place.connection, place.name, place.path)
    handle = pool.lookup(place.connection, place.name)
    assert handle.isActive()
    assert handle.autostart()


def test_ensure_keeps_a_folder_as_it_is(make_pool: Callable[[Path], Pool], tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o750)
    (folder / "kept.raw").write_bytes(b"1")
    place = make_pool(folder)
    assert folder.stat().st_mode & 0o7777 == 0o750
    assert pool.volumes(place.connection, place.name) == ["kept.raw"]


def test_ensure_starts_what_was_stopped_even_without_its_folder(place: Pool) -> None:
    pool.lookup(place.connection, place.name).destroy()
    with pytest.raises(LibvirtError, match="not active"):
        volume.create_empty(place.connection, place.name, "a.qcow2", 1)
    with pytest.raises(LibvirtError, match="not active"):
        volume.delete(place.connection, place.name, "a.qcow2")
    place.path.rmdir()
    pool.ensure(place.connection, place.name, place.path)
    assert place.files == []


def test_ensure_leaves_a_pool_elsewhere_alone(place: Pool, tmp_path: Path) -> None:
    with pytest.raises(HypervisorError, match=f"kept in {place.path}, not in {tmp_path}"):
        pool.ensure(place.connection, place.name, tmp_path)


@pytest.mark.parametrize("path", ["relative/path", "/tmp/a\nb", "/tmp/\x01"])
def test_ensure_refuses_odd_places(connection: libvirt.virConnect, path: str) -> None:
    with pytest.raises(HypervisorError, match="no place for a storage pool"):
        pool.ensure(connection, "odd", Path(path))


def test_a_folder_with_hostile_characters(make_pool: Callable[[Path], Pool], tmp_path: Path) -> None:
    place = make_pool(tmp_path / "<a href='&quot;'>\"é&amp; x")
    made = volume.create_empty(place.connection, place.name, "a.qcow2", 1)
    assert made == place.path / "a.qcow2"
    assert made.exists()


def test_ensure_from_many_threads(place: Pool) -> None:
    barrier = threading.Barrier(8)

    def once(_number: int) -> None:
        barrier.wait()
        pool.ensure(place.connection, place.name, place.path)

    pool.lookup(place.connection, place.name).destroy()
    pool.lookup(place.connection, place.name).undefine()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(once, range(8)))


def test_free(small: Pool) -> None:
    assert pool.free(small.connection, small.name) == 4
    (small.path / "other").write_bytes(bytes(2**20))
    assert pool.free(small.connection, small.name) == 3


def test_room(small: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pool.room(small.connection, small.name) == Room(active=True, free=4)
    (small.path / "other").write_bytes(bytes(2**20))

    def times(count: int) -> float:
        begun = time.monotonic()
        for _ in range(count):
            # as it is, although libvirt has not looked
            assert pool.room(small.connection, small.name) == Room(active=True, free=3)
        return (time.monotonic() - begun) / count

    assert min(times(10) for _ in range(10)) < 0.001
    # out of our reach, libvirt looks
    monkeypatch.setattr(pool, "_seen", lambda *_: None)
    assert pool.room(small.connection, small.name) == Room(active=True, free=3)


def test_room_of_another_file_system(place: Pool) -> None:
    """libvirt may be in another file system than the service."""
    code = (
        "import sys, libvirt; from hypervisor.storage import pool;"
        "print(pool.room(libvirt.open('qemu:///system'), sys.argv[1]).free)"
    )
    script = f"mount -t tmpfs -o size=5m tmpfs {place.path} && {sys.executable} -c"
    script += f' "$1" {place.name}'
    said = subprocess.check_output(["unshare", "--mount", "sh", "-c", script, "sh", code], cwd=ROOT)
    assert int(said) > 5


def test_room_and_start_of_a_pool_that_is_not_active(small: Pool) -> None:
    nothing = Room(active=False, free=0)
    pool.lookup(small.connection, small.name).destroy()
    assert pool.room(small.connection, small.name) == nothing
    for _ in range(2):
        pool.start(small.connection, small.name)
        assert pool.room(small.connection, small.name).active
    assert pool.room(small.connection, "nowhere") == nothing
    with pytest.raises(LibvirtError, match="storage pool nowhere"):
        pool.start(small.connection, "nowhere")


def test_start_without_the_folder(place: Pool) -> None:
    place.path.rmdir()
    assert pool.room(place.connection, place.name) == Room(active=False, free=0)
    with pytest.raises(
        HypervisorError, match=rf"see that {place.path} is there and mounted, then run virsh pool-start"
    ):
        pool.start(place.connection, place.name)
    assert not place.path.exists()


def test_no_such_pool(connection: libvirt.virConnect) -> None:
    for call in (pool.free, pool.volumes, pool.refresh, pool.lookup):
        with pytest.raises(LibvirtError, match="storage pool nowhere"):
            call(connection, "nowhere")


def test_a_folder_is_made_and_no_pool_stays(connection: libvirt.virConnect, tmp_path: Path) -> None:
    before = {one.name() for one in connection.listAllStoragePools()}
    for _ in range(2):
        pool.make_folder(connection, tmp_path / "deep" / "logs")
        (tmp_path / "deep" / "logs").chmod(0o700)
    assert {one.name() for one in connection.listAllStoragePools()} == before
    assert (tmp_path / "deep" / "logs").stat().st_mode & 0o7777 == 0o700
