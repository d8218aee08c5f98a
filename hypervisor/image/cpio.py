"""Write an initramfs: the `newc` archive that a Linux kernel unpacks, from nothing but names and bytes."""

from collections.abc import Iterable
from dataclasses import dataclass

_DIRECTORY, _REGULAR = 0o040000, 0o100000


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the archive, or a directory when `content` is None."""

    name: str
    content: bytes | None = None
    mode: int = 0o755


def archive(entries: Iterable[Entry]) -> bytes:
    """Make the archive; all of it belongs to root and has no date, so that equal input is equal output."""
    parts = [_record(number, entry) for number, entry in enumerate(entries, start=1)]
    parts.append(_record(0, Entry("TRAILER!!!", b"", 0), kind=0))
    return b"".join(parts)


def _record(inode: int, entry: Entry, kind: int | None = None) -> bytes:
    content = entry.content or b""
    if kind is None:
        kind = _DIRECTORY if entry.content is None else _REGULAR
    name = entry.name.encode() + b"\0"
    fields = (inode, kind | entry.mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
