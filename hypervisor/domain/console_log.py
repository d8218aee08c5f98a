"""The log of a serial console: all that the guest wrote since power-on, and what it is writing.

virtlogd writes it to FILE. When that is full (2 MiB unless virtlogd.conf says otherwise), it renames FILE.0
to FILE.1 and so on, the last one first, and FILE to FILE.0, begins a new FILE, and closes the old one
(libvirt's src/util/virrotatingfile.c).
"""

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from hypervisor import inotify

_MOST_PARTS = 32  # virtlogd keeps no more


def parts(file: Path) -> Iterator[Path]:
    """The parts of the log that are there, the newest first.

    While they are renamed, one may be missing between others, and one may come twice.
    """
    for part in (file, *(file.with_name(f"{file.name}.{number}") for number in range(_MOST_PARTS))):
        if part.exists():
            yield part


def remove(file: Path) -> None:
    """Remove the log with its rotated parts."""
    for part in list(parts(file)):
        part.unlink(missing_ok=True)


class TooSlow(Exception):
    """What was to be read next has been rotated away."""


class LogReader:
    """Reads a log from power-on, and goes on as it grows; raises `OSError` when it cannot be read."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._parts = deque(_open_newer(file, None))
        if not self._parts:
            raise FileNotFoundError(f"there is no console log {file}")

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at what is the end for now. Raises `TooSlow`."""
        while True:
            if data := self._parts[0].read(size):
                return data
            if len(self._parts) == 1:
                self._parts.extend(_open_newer(self._file, self._parts[0]))
            if len(self._parts) == 1:
                return b""
            # written to until it was renamed, and perhaps since we looked
            if data := self._parts[0].read(size):
                return data
            self._parts.popleft().close()

    def close(self) -> None:
        """Close the files."""
        for part in self._parts:
            part.close()


def _open_newer(file: Path, known: FileIO | None) -> list[FileIO]:
    """The parts behind `known`, the oldest first; all of them when none is known."""
    if known is not None and _is(file, known):
        return []
    found: list[FileIO] = []
    for path in parts(file):
        try:
            part = FileIO(path)
        except FileNotFoundError:
            continue
        # renamed while we look: met again under the next name
        if any(_is_same(part, one) for one in found):
            part.close()
            continue
        if known is not None and _is_same(part, known):
            part.close()
            return found[::-1]
        found.append(part)
    if known is not None and found:
        for part in found:
            part.close()
        raise TooSlow
    return found[::-1]


def _is(path: Path, part: FileIO) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(part.fileno()))
    return False


def _is_same(one: FileIO, other: FileIO) -> bool:
    return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))


class LogWatch:
    """Tells when a log has grown, by `fileno` being readable; raises `OSError` when there is none."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._inotify = inotify.Inotify()
        self._current: int | None = None
        self.closed = False
        """Whether its writer has closed it: the guest's process is gone, and all it wrote is there."""
        try:
            self._inotify.watch(file.parent, inotify.CREATE | inotify.MOVED_TO)
            self._follow()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._inotify.fileno()

    def grown(self) -> bool:
        """Take note of what happened; whether it concerned this log."""
        concerned = False
        for change in self._inotify.changes():
            if change.name == self._file.name:
                self._follow()
                concerned, self.closed = True, False
            elif change.watch == self._current:
                concerned = True
                self.closed = self.closed or bool(change.mask & inotify.CLOSE_WRITE)
        return concerned

    def close(self) -> None:
        """Watch no more."""
        self._inotify.close()

    def _follow(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._current = self._inotify.watch(self._file, inotify.MODIFY | inotify.CLOSE_WRITE)
