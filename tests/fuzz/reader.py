"""Calls made of any bytes: the same bytes always give the same calls, and more bytes give longer ones."""

import re
import struct
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

from api.methods import table
from tests.methods.test_random_values import NAMES, NUMBERS, OTHERS
from tests.methods.world import ALICE, BOB, READER, UNKNOWN

T = TypeVar("T")

_CALLS, _WIDTH, _DEPTH = 4, 6, 3
# what XML 1.0 cannot carry, and so no request brings
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_LIKELY: list[Any] = [*NUMBERS, *NAMES, *OTHERS]
_KEYS = [ALICE] * 12 + [BOB, READER, UNKNOWN, None]


class Reader:
    """Takes values from the front of `data`; what is not there is zero."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        self._at += count
        return piece.ljust(count, b"\0")

    def byte(self) -> int:
        return self.take(1)[0]

    def pick(self, some: Sequence[T]) -> T:
        return some[self.byte() % len(some)]

    def text(self) -> str:
        return _NO_TEXT.sub("", self.take(self.byte() % 40).decode("utf-8", "replace"))

    def value(self, keys: Sequence[str], depth: int = _DEPTH) -> Any:
        """Whatever a request can carry; half of the time what some parameter takes."""
        kind = self.byte()
        if kind >= 128:
            return _LIKELY[kind % len(_LIKELY)]
        match kind % (10 if depth else 8):
            case 0:
                return None
            case 1:
                return bool(self.byte() & 1)
            case 2:
                return self.byte()
            case 3:
                return int.from_bytes(self.take(8), "big", signed=True)
            case 4:
                return float(struct.unpack("!d", self.take(8))[0])
            case 5:
                return self.text()
            case 6:
                return self.take(self.byte() % 40)
            case 7:
                year, month, day, hour = self.take(4)
                return datetime(1900 + year, 1 + month % 12, 1 + day % 28, hour % 24)  # noqa: DTZ001 - as on the wire
            case 8:
                return [self.value(keys, depth - 1) for _ in range(self.byte() % _WIDTH)]
            case _:
                return self.struct(keys, depth)

    def struct(self, keys: Sequence[str], depth: int = _DEPTH) -> dict[str, Any]:
        """A struct, mostly with keys that the parameter knows."""
        made = {}
        for _ in range(self.byte() % (2 * _WIDTH)):
            number = self.byte()
            key = keys[number % len(keys)] if keys and number < 240 else self.text()
            made[key] = self.value(keys, depth - 1)
        return made


@cache
def every() -> tuple[table.Method, ...]:
    """All methods, in an order that stays."""
    return tuple(sorted(table.every(), key=lambda entry: entry.name))


@cache
def keys_of(entry: table.Method, place: int) -> tuple[str, ...]:
    """The keys of the structs that a parameter takes."""
    schema = entry.parameters[place].adapter.json_schema(by_alias=True)
    found = {"--dry-run"}
    for definition in (schema, *schema.get("$defs", {}).values()):
        found |= set(definition.get("properties", {}))
    return tuple(sorted(found))


def calls(data: bytes) -> list[tuple[str, list[Any]]]:
    """Some calls, each a method's name with its arguments."""
    reader, made = Reader(data), list[tuple[str, list[Any]]]()
    while reader and len(made) < _CALLS:
        entry = reader.pick(every())
        shape = reader.byte()
        count = len(entry.parameters)
        if shape >= 240:  # too few, too many
            count = shape % 6
        given: list[Any] = [reader.pick(_KEYS)] if entry.takes_key else []
        for place in range(count):
            keys = keys_of(entry, place) if place < len(entry.parameters) else ()
            wants_struct = len(keys) > 1 and reader.byte() < 200
            given.append(reader.struct(keys) if wants_struct else reader.value(keys))
        made.append((entry.name, given))
    return made
