"""Pools on a real libvirt."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import libvirt
import pytest

from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import LibvirtError
from hypervisor.storage import pool, volume
from tests.storage.conftest import Pool

pytestmark = pytest.mark.lab


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


def test_no_such_pool(connection: libvirt.virConnect) -> None:
    for call in (pool.free, pool.volumes, pool.refresh, pool.lookup):
        with pytest.raises(LibvirtError, match="storage pool nowhere"):
            call(connection, "nowhere")
