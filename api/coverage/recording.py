"""What the tests saw, by method: which parameters were accepted, what the answers held, which faults came.

A recording holds names and types of the wire, and no value but those of the reference's enumerations. Paths
are written ``vm_spec.cores`` (parameters, from the parameter's name) and ``[].disks[].id`` (answers, from the
root).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from api.coverage.reference import join

Types = dict[str, set[str]]
_PARTS = ("parameters", "values", "answer")

EMPTY = "empty"
"""The type of a string without a character: it shows no more than nil does."""


class RecordingError(ValueError):
    """A recording cannot be read."""


@dataclass
class Seen:
    """What was seen of one method."""

    names: set[str] = field(default_factory=set)
    """The names that it was called by."""
    faults: set[int] = field(default_factory=set)
    """The codes that it refused a call with."""
    carried: set[str] = field(default_factory=set)
    """Paths of parameters of a call whose operations all ended in DONE."""
    parameters: Types = field(default_factory=dict)
    """Path to types, of the parameters that were accepted."""
    values: Types = field(default_factory=dict)
    """Path to values, where those are enumerated; both of parameters and of answers."""
    answer: Types = field(default_factory=dict)
    """Path to types in the answers."""

    def add(self, other: "Seen") -> None:
        """See what `other` has seen, too."""
        self.names |= other.names
        self.faults |= other.faults
        self.carried |= other.carried
        for mine, others in (
            (self.parameters, other.parameters),
            (self.values, other.values),
            (self.answer, other.answer),
        ):
            for path, seen in others.items():
                mine.setdefault(path, set()).update(seen)


class Recording(dict[str, Seen]):
    """By canonical name, what was seen of each method."""

    def of(self, name: str) -> Seen:
        """What was seen of the method; nothing when it was never called."""
        return self.get(name, Seen())

    def merge(self, other: "Recording") -> "Recording":
        """This recording, with all that `other` has."""
        for name, seen in other.items():
            self.setdefault(name, Seen()).add(seen)
        return self

    def dump(self) -> str:
        """The recording as a file's text: sorted, a line for each struct."""
        return json.dumps({name: _plain(seen) for name, seen in sorted(self.items())}, indent=1) + "\n"


def _plain(seen: Seen) -> dict[str, Any]:
    return {
        "names": _joined(seen.names),
        "faults": _joined(map(str, seen.faults)),
        "carried": _joined(seen.carried),
        **{part: _packed(getattr(seen, part)) for part in _PARTS},
    }


def _packed(types: Types) -> dict[str, str]:
    """A line for each struct: what it is in, and its keys with their types."""
    lines: dict[str, list[str]] = {}
    for path, found in sorted(types.items()):
        parent, _, key = path.rpartition(".")
        lines.setdefault(parent, []).append(f"{key}: {'|'.join(sorted(found))}")
    return {parent: "; ".join(keys) for parent, keys in lines.items()}


def _unpacked(lines: dict[str, str]) -> Types:
    types: Types = {}
    for parent, line in lines.items():
        for said in line.split("; "):
            key, _, found = said.partition(": ")
            types[join(parent, key)] = set(found.split("|"))
    return types


def _joined(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


def _split(text: str) -> set[str]:
    return set(text.split(", ")) if text else set()


def parse(text: str) -> Recording:
    """The recording that `dump` wrote."""
    return Recording(
        {
            name: Seen(
                _split(seen["names"]),
                {int(code) for code in _split(seen["faults"])},
                _split(seen["carried"]),
                *(_unpacked(seen[part]) for part in _PARTS),
            )
            for name, seen in json.loads(text).items()
        }
    )


def load(file: Path) -> Recording:
    """The recording in `file`; raises `RecordingError`."""
    try:
        return parse(file.read_text())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingError(f"{file} is no recording: {error}; a whole `make test` leaves one") from error


def committed() -> Recording:
    """The recording that this package carries."""
    return parse(resources.files(__package__).joinpath("recorded.json").read_text())
