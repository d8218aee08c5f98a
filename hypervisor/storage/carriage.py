"""A volume that no machine uses carried into one of another libvirt, which may be on another host.

The file's bytes pass through this process, from a stream of the one libvirt to a stream of the other
(https://libvirt.org/html/libvirt-libvirt-storage.html#virStorageVolDownload). Holes do not travel, and what
is zero is a hole where it arrives.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt

from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import LibvirtError, explained
from hypervisor.storage import content, offline, pool, volume
from hypervisor.storage.content import Qcow2
from hypervisor.storage.offline import Cancelled, Report

# libvirt's client keeps all in memory that a stream was sent and nobody took yet, so that it is asked for
# that many bytes at a time
_WINDOW = 2**26
_AT_HOLE = -3  # what virStreamRecvFlags returns before a hole


def carry(
    source: libvirt.virConnect,
    source_path: Path,
    form: str,
    target: libvirt.virConnect,
    target_path: Path,
    report: Report,
    cancelled: threading.Event,
) -> None:
    """Copy the volume at `source_path` of one libvirt into the volume at `target_path` of the other, whole
    and without a backing file. `form` is the format of both, ``qcow2`` or ``raw``. The target is made anew,
    of the size of the source.

    A volume on a backing file is first copied to a whole one beside it, which needs space in its pool, and is
    gone when this returns; one that a killed attempt left is removed by the next, or by `clear`.

    `report` is called from this thread with the bytes done and the bytes in all, which are the size that a
    guest sees; making the volume whole counts for the first half. Setting `cancelled` ends the copy with its
    next 256 KiB; while libvirt makes the volume whole on a host that is not ours, only after that.

    What arrived is complete when this returns. It may still be in the memory of the target's host: libvirt
    has no call that stores it.

    Raises `Cancelled`, and `HypervisorError` when the copy fails, for instance because there is no space
    left. The target is then of no use. No machine may write to the source: libvirt does not see to that.
    """
    try:
        _carry(source, source_path, form, target, target_path, report, cancelled)
    except BaseException:
        # its own error is the one that tells what to do
        with contextlib.suppress(HypervisorError):
            clear(source, source_path)
        raise
    clear(source, source_path)


def clear(source: libvirt.virConnect, source_path: Path) -> None:
    """Remove what a killed `carry` of the volume left beside it; does nothing when there is nothing."""
    volume.delete(source, _pool_of(source, source_path), _whole_name(source_path))


def _whole_name(path: Path) -> str:
    return f"{path.name}.whole"


def _pool_of(connection: libvirt.virConnect, path: Path) -> str:
    with explained(f"storage pool in {path.parent}"):
        return str(connection.storagePoolLookupByTargetPath(str(path.parent)).name())


def _carry(
    source: libvirt.virConnect,
    source_path: Path,
    form: str,
    target: libvirt.virConnect,
    target_path: Path,
    report: Report,
    cancelled: threading.Event,
) -> None:
    what, place = f"copy of {source_path.name}", _pool_of(target, target_path)
    with explained(what):
        read = source.storageVolLookupByPath(str(source_path))
        size, on_base = _look(source, read, form)
    if cancelled.is_set():
        raise Cancelled(f"{what}: cancelled")
    report(0, size)
    begin = 0
    if on_base:
        begin = size // 2
        read = _make_whole(source, source_path, lambda done, _: report(done // 2, size), cancelled)
    with explained(what):
        length = _length(read)
    with _advised(what, place):
        written = volume.create_room(target, place, target_path.name, length)
        with explained(what):
            _pass(
                _until(cancelled, what, _pieces(source, read, 0, length)),
                target,
                written,
                length,
                lambda done: report(begin + (size - begin) * done // length, size),
            )
    # only now libvirt looks what is in the file
    pool.refresh(target, place)
    report(size, size)


def _look(connection: libvirt.virConnect, read: libvirt.virStorageVol, form: str) -> tuple[int, bool]:
    """The size in bytes of the disk in a volume, and whether a backing file holds a part of it.

    The image is asked: libvirt knows what was in it when the pool was last refreshed.
    """
    if form == "raw":
        return _length(read), False
    image = Qcow2.read(b"".join(bytes(piece) for piece in _pieces(connection, read, 0, content.HEAD)))
    if image is None:
        raise HypervisorError(f"copy of {read.name()}: its image is damaged, it is not in qcow2 format")
    return image.size, image.on_base


def _length(handle: libvirt.virStorageVol) -> int:
    """The bytes in the volume's file."""
    return int(handle.infoFlags(libvirt.VIR_STORAGE_VOL_GET_PHYSICAL)[2])


def _make_whole(
    connection: libvirt.virConnect, path: Path, report: Report, cancelled: threading.Event
) -> libvirt.virStorageVol:
    """A copy of the qcow2 volume at `path` beside it, without its backing file."""
    place, name = _pool_of(connection, path), _whole_name(path)
    what = f"copy of {path.name}"
    with _advised(what, place):
        whole = volume.create_twin(connection, place, name, "qcow2", place, path.name)
        offline.copy(connection, path, "qcow2", whole, "qcow2", report, cancelled)
        with explained(what):
            return connection.storageVolLookupByPath(str(whole))


@contextlib.contextmanager
def _advised(what: str, place: str) -> Iterator[None]:
    """Tell what to do when the pool `place` is full."""
    try:
        yield
    except LibvirtError as error:
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise HypervisorError(f"{what}: {offline.advice(str(error), place)}") from error


def _pieces(
    connection: libvirt.virConnect, read: libvirt.virStorageVol, start: int, end: int
) -> Iterator[bytes | int]:
    """What is in a part of the volume's file, in order: bytes, and the lengths of holes."""
    for position in range(start, end, _WINDOW):
        stream = connection.newStream()
        try:
            part = min(_WINDOW, end - position)
            read.download(stream, position, part, libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)
            while piece := stream.recvFlags(content.CHUNK, libvirt.VIR_STREAM_RECV_STOP_AT_HOLE):
                # the hole behind the end has no length
                if piece != _AT_HOLE:
                    yield piece
                elif hole := stream.recvHole():
                    yield hole
            stream.finish()
        except BaseException:
            with contextlib.suppress(libvirt.libvirtError):
                stream.abort()
            raise


def _until(cancelled: threading.Event, what: str, pieces: Iterator[bytes | int]) -> Iterator[bytes | int]:
    for piece in pieces:
        if cancelled.is_set():
            raise Cancelled(f"{what}: cancelled")
        yield piece


def _pass(
    pieces: Iterator[bytes | int],
    connection: libvirt.virConnect,
    written: libvirt.virStorageVol,
    length: int,
    report: Callable[[int], None],
) -> None:
    """Send the pieces, of `length` bytes in all, to a new volume."""
    position, last = 0, (0, b"")
    stream = connection.newStream()
    try:
        written.upload(stream, 0, length, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)
        for piece in pieces:
            extent = piece if isinstance(piece, int) else len(piece)
            if isinstance(piece, int) or piece == bytes(extent):
                stream.sendHole(extent)
            else:
                last = (position, piece)
                while piece:
                    piece = piece[stream.send(piece) :]
            position += extent
            report(position)
        stream.finish()
    except BaseException:
        with contextlib.suppress(libvirt.libvirtError):
            stream.abort()
        raise
    if position != length:
        raise HypervisorError(f"copy into {written.name()}: the source became shorter while it was read")
    if last[1]:
        content.check_stored(connection, written, *last)
