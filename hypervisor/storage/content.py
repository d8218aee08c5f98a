"""Bytes into a volume: straight into its file, or over a libvirt stream."""

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import urlsplit

import libvirt
from lxml import etree

from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import LibvirtError

CHUNK = 262120
"""The most bytes that one message of libvirt's protocol takes (VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX)."""

HEAD = 32
"""The bytes at the beginning of a qcow2 image that `Qcow2.read` wants."""

_BLOCK = 2**16
_QCOW2 = b"QFI\xfb"
_FULL = os.strerror(errno.ENOSPC)


@dataclass(frozen=True, slots=True)
class Qcow2:
    """What the head of a qcow2 image says: the size in bytes of the disk in it, and whether a backing file
    holds a part of that (https://www.qemu.org/docs/master/interop/qcow2.html)."""

    size: int
    on_base: bool

    @classmethod
    def read(cls, head: bytes) -> Self | None:
        """Read an image's first `HEAD` bytes; None when it is no qcow2 image."""
        if len(head) < HEAD or not head.startswith(_QCOW2):
            return None
        return cls(int.from_bytes(head[24:32]), head[8:16] != bytes(8))


def virtual_size(content: Path | bytes, form: str) -> int:
    """The size in bytes of the disk that the image `content` holds; raises `HypervisorError` when it is no
    image of format `form`, ``raw`` or ``qcow2``."""
    if form == "raw":
        return len(content) if isinstance(content, bytes) else content.stat().st_size
    with opened(content) as file:
        image = Qcow2.read(file.read(HEAD))
    if form != "qcow2" or image is None:
        raise HypervisorError(f"the content is no disk image of format {form}: convert it with qemu-img")
    return image.size


@contextlib.contextmanager
def opened(content: Path | bytes) -> Iterator[BinaryIO]:
    """`content` as an open file."""
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        yield file


def write(connection: libvirt.virConnect, volume: libvirt.virStorageVol, content: Path | bytes) -> bool:
    """Write bytes into the file of a new raw volume of that size; False when it is out of reach, or `content`
    is a file. Raises `LibvirtError` when there is no space for it.

    After a stream libvirt reads the whole pool anew, which makes the next call wait 0.1 ms for each volume in
    it; a service on libvirt's host that may write the file itself spares everybody that.
    """
    if not isinstance(content, bytes) or urlsplit(connection.getURI()).hostname:
        return False
    try:
        file = os.open(volume.path(), os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(file, "wb", buffering=0) as target:
        if not is_file_of(os.fstat(file), volume) or os.fstat(file).st_size != len(content):
            return False
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[target.write(rest) :]
        except OSError as error:
            raise LibvirtError(f"upload of volume {volume.name()}: {error.strerror}") from error
    return True


def is_file_of(found: os.stat_result, volume: libvirt.virStorageVol) -> bool:
    """Whether the file that was found is the volume's: libvirt may live in another file system than ours."""
    # only the time tells the same file
    described = etree.fromstring(volume.XMLDesc().encode()).findtext("target/timestamps/ctime") or ""
    seconds, _, nanoseconds = described.partition(".")
    return f"{seconds}.{nanoseconds:0<9}" == f"{found.st_ctime_ns // 10**9}.{found.st_ctime_ns % 10**9:09}"


def send(
    connection: libvirt.virConnect, volume: libvirt.virStorageVol, content: Path | bytes, form: str
) -> None:
    """Send `content` to the new volume; what is not there in a sparse raw file does not travel."""
    # a qcow2 volume has a header of its own already, which holes would let through
    sparse = form == "raw" and isinstance(content, Path)
    stream = connection.newStream()
    with opened(content) as file:
        size = file.seek(0, os.SEEK_END)
        extents = list(_extents(file, size)) if sparse else [(0, size, True)]
        try:
            volume.upload(stream, 0, size, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM if sparse else 0)
            for start, end, is_data in extents:
                if is_data:
                    _send_range(stream, file, start, end)
                else:
                    stream.sendHole(end - start)
            stream.finish()
        except BaseException:
            with contextlib.suppress(libvirt.libvirtError):
                stream.abort()
            raise
        for begin, end, is_data in reversed(extents):
            if is_data and _is_end_stored(connection, volume, file, begin, end):
                return


def _is_end_stored(
    connection: libvirt.virConnect, volume: libvirt.virStorageVol, file: BinaryIO, begin: int, end: int
) -> bool:
    """False when there is nothing but zeros in that part of the content."""
    for block in range((end - 1) // _BLOCK * _BLOCK, begin - _BLOCK, -_BLOCK):
        start = max(block, begin)
        file.seek(start)
        wanted = file.read(min(block + _BLOCK, end) - start)
        if wanted.strip(b"\0"):
            check_stored(connection, volume, start, wanted)
            return True
    return False


def check_stored(
    connection: libvirt.virConnect, volume: libvirt.virStorageVol, start: int, wanted: bytes
) -> None:
    """See that the end of the content that is not zero, `wanted` at `start`, was stored: libvirt (9.0) does
    not tell when its last writes fail. Raises `LibvirtError`."""
    stored = b""
    stream = connection.newStream()
    try:
        volume.download(stream, start, len(wanted))
        while chunk := stream.recv(_BLOCK):
            stored += chunk
        stream.finish()
    except BaseException:
        with contextlib.suppress(libvirt.libvirtError):
            stream.abort()
        raise
    if stored != wanted:
        raise LibvirtError(f"upload of volume {volume.name()}: its end was not stored. {_FULL}?")


def _extents(file: BinaryIO, size: int) -> Iterator[tuple[int, int, bool]]:
    """What is data and what is a hole (lseek(2)): start, end, whether it is data."""
    position = 0
    while position < size:
        try:
            data = os.lseek(file.fileno(), position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            data = size  # the rest is a hole
        if data > position:
            yield position, data, False
        if data < size:
            position = min(os.lseek(file.fileno(), data, os.SEEK_HOLE), size)
            yield data, position, True
        else:
            position = size


def _send_range(stream: libvirt.virStream, file: BinaryIO, start: int, end: int) -> None:
    file.seek(start)
    while start < end:
        chunk = file.read(min(CHUNK, end - start))
        if not chunk:
            raise HypervisorError("the file became shorter while it was read")
        start += len(chunk)
        while chunk:
            chunk = chunk[stream.send(chunk) :]
