"""Changes of files as they happen: the two system calls of inotify(7) that Python does not have."""

import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODIFY, CLOSE_WRITE, CREATE, MOVED_TO = 0x2, 0x8, 0x100, 0x80

_HEADER = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Change:
    """What happened, as a mask, to what `watch` watches, or to the file `name` in that folder."""

    watch: int
    mask: int
    name: str = ""


class Inotify:
    """Watches files and folders; `fileno` is readable when something happened."""

    def __init__(self) -> None:
        self._fd: int = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def watch(self, path: Path, mask: int) -> int:
        """Tell of the changes in `mask`; returns the watch's number. Raises `OSError`."""
        return _checked(_libc.inotify_add_watch(self._fd, os.fsencode(path), mask), str(path))

    def changes(self) -> Iterator[Change]:
        """What happened since it was last asked; does not wait."""
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        place = 0
        while place < len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, place)
            place += _HEADER.size
            yield Change(watch, mask, os.fsdecode(data[place : place + length].rstrip(b"\0")))
            place += length

    def close(self) -> None:
        """Watch nothing any more."""
        os.close(self._fd)


def _checked(result: int, what: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result
