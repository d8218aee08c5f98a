"""Reading a console's log while it grows, is rotated and begins anew."""

import itertools
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor.domain.console_log import LogReader, LogWatch, TooSlow, parts, remove

BACKUPS = 3


class Writer:
    """Writes as virtlogd does: numbered lines, into a file that is renamed after every ten of them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.numbers = itertools.count()
        self.begin()

    def begin(self) -> None:
        """Begin anew, as at a power-on."""
        remove(self.file)
        self._open = self.file.open("wb", buffering=0)

    def write(self, count: int) -> None:
        """Write lines."""
        for _ in range(count):
            number = next(self.numbers)
            self._open.write(b"%d\n" % number)
            if number % 10 == 9:
                self.rotate()

    def rotate(self) -> None:
        """Rename, and write on in a new file."""
        old = self._open
        for number in reversed(range(BACKUPS - 1)):
            part = self.file.with_name(f"{self.file.name}.{number}")
            if part.exists():
                part.rename(self.file.with_name(f"{self.file.name}.{number + 1}"))
        self.file.rename(self.file.with_name(f"{self.file.name}.0"))
        self._open = self.file.open("wb", buffering=0)
        old.close()

    def close(self) -> None:
        """Close the file: the guest is gone."""
        self._open.close()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A writer of a log."""
    made = Writer(tmp_path / "x.log")
    yield made
    made.close()


def rest(reader: LogReader, size: int = 7) -> list[int]:
    """The numbers that are there to be read."""
    text = b"".join(iter(lambda: reader.read(size), b""))
    assert not text or text.endswith(b"\n")
    return [int(line) for line in text.split()]


@pytest.mark.parametrize("steps", [(3, 4, 5), (10, 10), (9, 1, 1), (25, 7), (0, 30), (31, 0, 2), (1,) * 60])
def test_every_line_once_over_rotations(writer: Writer, steps: tuple[int, ...]) -> None:
    writer.write(12)
    reader = LogReader(writer.file)
    seen = rest(reader)
    for count in steps:
        writer.write(count)
        seen += rest(reader)
    assert seen == list(range(12 + sum(steps)))
    reader.close()


def test_a_late_reader_gets_the_rotated_parts_too(writer: Writer) -> None:
    writer.write(38)
    reader = LogReader(writer.file)
    # rotated while it reads
    first = reader.read(4)
    writer.write(20)
    assert first == b"0\n1\n"
    assert rest(reader) == list(range(2, 58))
    reader.close()


def test_one_who_was_left_behind_is_told(writer: Writer) -> None:
    writer.write(5)
    reader = LogReader(writer.file)
    writer.write(60)
    with pytest.raises(TooSlow):
        rest(reader)
    reader.close()


def test_without_a_log(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LogReader(tmp_path / "none.log")


def test_removal_takes_every_part(writer: Writer) -> None:
    writer.write(45)
    assert len(list(parts(writer.file))) == 1 + BACKUPS
    # in the middle of a rotation
    writer.file.with_name(f"{writer.file.name}.0").rename(writer.file.with_name(f"{writer.file.name}.7"))
    remove(writer.file)
    assert list(writer.file.parent.iterdir()) == []


def test_a_watch_tells_of_growth_of_rotation_and_of_the_end(writer: Writer) -> None:
    watch = LogWatch(writer.file)

    def told() -> bool:
        return bool(select.select([watch], [], [], 0)[0]) and watch.grown()

    assert not told()
    for _ in range(3):
        writer.write(3)
        assert told()
        assert not told()
    writer.rotate()
    assert told()
    assert not watch.closed
    writer.write(1)
    assert told()
    other = writer.file.with_name("another.log")
    other.write_bytes(b"x")
    assert not told()
    writer.close()
    assert told()
    assert watch.closed
    watch.close()
