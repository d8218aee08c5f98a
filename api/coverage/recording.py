"""What the tests saw, by method: which parameters were accepted, what the answers held, which faults came.

A recording holds names and types of the wire, and no value but those of the reference's enumerations. Paths
are written ``vm_spec.cores`` (parameters, from the parameter's name) and ``[].disks[].id`` (answers, from the
root).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from api.coverage.reference import join

Types = dict[str, set[str]]
_PARTS = ("parameters", "values", "answer")

EMPTY = "empty"
"""The type of a string without a character: it shows no more than nil does."""

# types that prove nothing, and states that are over before a test has asked for them
_NO_CLAIMS = {"nil", EMPTY, "BILL", "WAIT", "RUN", "being_created", "being_migrated"}


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

    def lines(self) -> Iterator[str]:
        """What is claimed, a line each: all that the next run will see again."""
        yield from (f"called as {name}" for name in sorted(self.names))
        yield from (f"fault {code}" for code in sorted(self.faults))
        for what, types in (("parameter", self.parameters), ("answer", self.answer)):
            for path, seen in sorted(types.items()):
                for one in sorted(seen - _NO_CLAIMS):
                    yield f"{what} {path or '(all of it)'}: {one}"
        yield from (f"parameter {path}: operation DONE" for path in sorted(self.carried))


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

    def lines(self) -> list[str]:
        """What is claimed, a line each: see `Seen.lines`, and the values of each key, seen wherever.

        Which operations a list shows at some moment is chance.
        """
        values = {
            f"value of {path.rpartition('.')[2]}: {one}"
            for seen in self.values()
            for path, found in seen.values.items()
            for one in found - _NO_CLAIMS
        }
        seen = [f"{name}: {line}" for name, seen in sorted(self.items()) for line in seen.lines()]
        return seen + sorted(values)

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


def claimed_beyond(claims: Recording, seen: Recording) -> list[str]:
    """What `claims` has and `seen` has not, a line each."""
    there = set(seen.lines())
    return [line for line in claims.lines() if line not in there]
