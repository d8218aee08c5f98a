"""Done, differs or absent: one type of the reference beside the types that were seen."""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from api.coverage.recording import EMPTY, Types
from api.coverage.reference import Field, Method
from api.methods import table

NOT_CARRIED = "accepted, but no test saw the operation end in DONE"


class Status(enum.StrEnum):
    """How much of something is there."""

    DONE = "done"
    DIFFERS = "differs"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A status, and why it is not a better one."""

    status: Status
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reasons:
    """What no type shows, by ``Struct.key`` or method: see ``reasons.toml``."""

    remark: Mapping[str, str] = field(default_factory=dict)
    differs: Mapping[str, str] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)

    def applied(self, subject: str, verdict: Verdict) -> Verdict:
        """The verdict with what is known about `subject`; one that is absent stays so."""
        noted = {Status.DIFFERS: self.why, Status.DONE: self.remark}.get(verdict.status, {})
        if subject in noted:
            return replace(verdict, notes=(*verdict.notes, noted[subject]))
        if verdict.status is not Status.ABSENT and subject in self.differs:
            return Verdict(Status.DIFFERS, (*verdict.notes, self.differs[subject]))
        return verdict


def wire(kind: str) -> str:
    """The type of the wire that a type of the reference is."""
    if kind.startswith("array of "):
        return "array"
    # a struct by its name
    return "struct" if kind[0].isupper() else kind


def judged(kind: str, seen: Types, path: str) -> Verdict:
    """Whether the types at `path` are those that `kind` allows.

    nil always is, but shows nothing unless `kind` names it.
    """
    if kind == "any":
        return Verdict(Status.DONE)
    alternatives = kind.split(" or ")
    found = seen.get(path, set())
    telling = found - ({"nil", EMPTY} - set(alternatives))
    wrong = telling - {wire(one) for one in alternatives}
    if wrong:
        return Verdict(Status.DIFFERS, (f"{_and(wrong)} here",))
    if not telling:
        return Verdict(Status.DIFFERS, (f"only seen {' or '.join(sorted(found))}",))
    for one in alternatives:
        if one.startswith("array of ") and "array" in telling:
            if f"{path}[]" not in seen:
                return Verdict(Status.DIFFERS, ("only seen empty",))
            inner = judged(one.removeprefix("array of "), seen, f"{path}[]")
            if inner.status is not Status.DONE:
                return Verdict(Status.DIFFERS, tuple(f"in the array, {note}" for note in inner.notes))
    return Verdict(Status.DONE)


def accepted_as(wanted: Field, accepted: Types) -> Verdict:
    """Whether one of the parameter's types was accepted; those that no test has given are noted."""
    types, items = accepted.get("", set()), accepted.get("[]", set())
    tried = [one for one in wanted.alternatives if _given(one, types, items)]
    if not tried:
        given = f"tested as {_and(types - {'nil'})} only" if types - {"nil"} else "taken, but tested nowhere"
        return Verdict(Status.ABSENT, (given,))
    untried = [one for one in wanted.alternatives if one not in tried]
    return Verdict(Status.DONE, (f"{_and(untried)} not tested",) if untried else ())


def _given(kind: str, types: set[str], items: set[str]) -> bool:
    if kind.startswith("array of "):
        return "array" in types and wire(kind.removeprefix("array of ")) in items
    return bool({wire(kind), EMPTY} & types) if kind == "string" else wire(kind) in types


def other_signature(method: Method, entry: table.Method) -> list[str]:
    """How the table's parameters are others than the reference's: their types, which may be left out."""
    wanted = [(one.mandatory, wire(one.type)) for one in method.takes]
    taken = [(one.mandatory, one.wire_type) for one in entry.parameters]
    names = ", ".join(one.name for one in entry.parameters)
    return [] if wanted == taken else [f"takes {names or 'nothing'}"]


def other_key(wanted: Field, schema: Mapping[str, object]) -> list[str]:
    """How the table's key is another than the reference's: mandatory, default."""
    notes = []
    if wanted.mandatory != schema["mandatory"]:
        notes.append("mandatory here" if schema["mandatory"] else "not mandatory here")
    if wanted.default is not None and wanted.default != schema["default"]:
        notes.append(f"default {schema['default']} here")
    return notes


def _and(words: Iterable[str]) -> str:
    return " and ".join(sorted(words))
