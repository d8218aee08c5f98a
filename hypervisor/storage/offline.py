"""A volume that no machine uses copied into one of another pool.

Where libvirt is on this host, qemu-img copies: it tells how far it is, and can be stopped. Elsewhere libvirt
does it, which does neither (https://libvirt.org/html/libvirt-libvirt-storage.html#virStorageVolCreateXMLFrom).
"""

import errno
import os
import re
import select
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import libvirt

from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import explained
from hypervisor.storage import content, pool, volume

Report = Callable[[int, int], None]

_PROGRESS = re.compile(rb"\s*\((\d+(?:\.\d+)?)/100%\)\s*")
_KEPT = 4096  # bytes of what qemu-img says
_LOOK = 0.2  # how soon a copy is stopped when it is to be, in seconds


class Cancelled(HypervisorError):
    """The copy was stopped as it was asked for; what it had written is of no use."""


def copy(
    connection: libvirt.virConnect,
    source: Path,
    source_format: str,
    target: Path,
    target_format: str,
    report: Report,
    cancelled: threading.Event,
) -> None:
    """Copy the volume at `source` into the existing volume at `target`, of at least its size, whole and
    without a backing file. What the target held is overwritten.

    `report` is called from this thread with the bytes done and the bytes in all, which are the size that a
    guest sees. Setting `cancelled` ends the copy within a second; where libvirt is elsewhere, it only keeps
    it from beginning. The copy ends with the service, however that ends, and is on the disk when this
    returns.

    Raises `Cancelled`, and `HypervisorError` when the copy fails, for instance because a machine uses one of
    the volumes, or there is no space left. The target is then of no use.
    """
    with explained(f"copy of {source.name}"):
        read = connection.storageVolLookupByPath(str(source))
        written = connection.storageVolLookupByPath(str(target))
        name, place = written.name(), written.storagePoolLookupByVolume().name()
        size = int(read.info()[1])
        here = _is_here(connection, read, os.R_OK) and _is_here(connection, written, os.R_OK | os.W_OK)
    if cancelled.is_set():
        raise Cancelled(f"copy of {source.name}: cancelled")
    report(0, size)
    if here:
        try:
            arguments = ["-f", source_format, "-O", target_format, "--", str(source), str(target)]
            _convert(arguments, lambda share: report(int(share * size), size), cancelled)
            _store(target)
        except _Failed as error:
            raise HypervisorError(f"copy of {source.name}: {advice(str(error), place)}") from error
        pool.refresh(connection, place)
    else:
        volume.create_copy(connection, place, name, -(-size // 2**20), source, target_format)
    report(size, size)


def _is_here(connection: libvirt.virConnect, handle: libvirt.virStorageVol, access: int) -> bool:
    """Whether a program that we start reaches the volume's file."""
    if urlsplit(connection.getURI()).hostname or shutil.which("qemu-img") is None:
        return False
    try:
        path = Path(handle.path())
        return os.access(path, access) and content.is_file_of(path.stat(), handle)
    except OSError:
        return False


class _Failed(Exception):
    """What qemu-img or the kernel said."""


def _convert(arguments: list[str], report: Callable[[float], None], cancelled: threading.Event) -> None:
    said = line = b""
    with subprocess.Popen(
        # the kernel kills it when this thread ends, be it with the whole service
        ["setpriv", "--pdeathsig", "KILL", "qemu-img", "convert", "-p", "-n", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "LC_ALL": "C"},
        start_new_session=True,  # Ctrl-C reaches us alone
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            while chunk := _next(process.stdout.fileno(), cancelled):
                said = (said + chunk)[-_KEPT:]
                *lines, line = (line + chunk).split(b"\r")
                for share in filter(None, map(_PROGRESS.fullmatch, lines)):
                    report(float(share[1]) / 100)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        text = _PROGRESS.sub(b"", said).decode(errors="replace").strip()
        raise _Failed(text or f"qemu-img ended with status {process.returncode}")


def _next(descriptor: int, cancelled: threading.Event) -> bytes:
    """What qemu-img says next, nothing at its end; raises `Cancelled`."""
    while not cancelled.is_set():
        if select.select([descriptor], [], [], _LOOK)[0]:
            return os.read(descriptor, _KEPT)
    raise Cancelled("the copy was cancelled")


def _store(target: Path) -> None:
    """Wait until the volume is on the disk: its source may be deleted next."""
    try:
        descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _Failed(error.strerror) from error


def advice(text: str, place: str) -> str:
    """What to do when a copy into the pool `place` failed with `text`."""
    if os.strerror(errno.ENOSPC) in text:
        return f"no space left in storage pool {place}: free some there, and copy again"
    if "lock" in text:
        return f"a machine uses the disk: stop the machine or detach the disk, and copy again ({text})"
    return text
