"""Everything that the reference names, beside the method table and what the tests have seen."""

from collections.abc import Iterable
from dataclasses import dataclass

from api import methods
from api.coverage.judge import (
    NOT_CARRIED,
    Reasons,
    Status,
    Verdict,
    accepted_as,
    judged,
    other_key,
    other_signature,
)
from api.coverage.recording import Recording, Types
from api.coverage.reference import Field, Method, Reference, join
from api.methods import table
from api.methods.schema import keys_of

methods.load()


@dataclass(frozen=True)
class Coverage:
    """Judges everything that the reference names."""

    reference: Reference
    recording: Recording
    reasons: Reasons

    def method(self, method: Method) -> Verdict:
        """Whether the method is in the table as the reference has it, and a test had an answer of it."""
        entry = table.lookup(method.name)
        if entry is None:
            return Verdict(Status.ABSENT, (f"open: {method.topic}",) if method.topic else ())
        seen = self.recording.of(method.name)
        if not seen.answer:
            return Verdict(Status.ABSENT, ("in the table, but no test has had an answer",))
        notes = [*other_signature(method, entry), *judged(method.returns, seen.answer, "").notes]
        if method.alias and table.lookup(method.alias) is not entry:
            notes.append(f"not served as {method.alias}")
        unseen = () if seen.carried or not _operates(method) else (NOT_CARRIED,)
        verdict = Verdict(Status.DIFFERS if notes else Status.DONE, (*notes, *unseen))
        return self.reasons.applied(method.name, verdict)

    def argument(self, method: Method, position: int) -> Verdict:
        """Whether a parameter of the method (not a key of one) was accepted by a call."""
        parameter = _parameter(method, position)
        if parameter is None:
            return Verdict(Status.ABSENT)
        types = self.recording.of(method.name).parameters
        accepted = {at: types.get(f"{parameter.name}{at}", set()) for at in ("", "[]")}
        return accepted_as(method.takes[position], accepted)

    def key(self, struct: str, key: Field) -> Verdict:
        """Whether the key of a struct of parameters is in the table and a call with it was accepted."""
        lacking, notes, accepted = [], set(), Types()
        carried, operates = False, False
        served = self._served(struct)
        for method, parameter in served:
            known = keys_of(parameter)
            if key.name not in known:
                lacking.append(method.name)
                continue
            notes.update(other_key(key, known[key.name]))
            seen, path = self.recording.of(method.name), join(parameter.name, key.name)
            operates = operates or _operates(method)
            carried = carried or path in seen.carried
            for at in ("", "[]"):
                accepted.setdefault(at, set()).update(seen.parameters.get(f"{path}{at}", ()))
        if len(lacking) == len(served):
            return Verdict(Status.ABSENT, ("refused",) if served else ())
        found = accepted_as(key, accepted)
        if found.status is Status.ABSENT:
            return found
        unseen = () if carried or not operates else (NOT_CARRIED,)
        notes.update(f"not in {name}" for name in lacking)
        verdict = Verdict(Status.DIFFERS if notes else Status.DONE, (*sorted(notes), *found.notes, *unseen))
        return self.reasons.applied(f"{struct}.{key.name}", verdict)

    def field(self, struct: str, wanted: Field) -> Verdict:
        """Whether the field of a returned struct was seen, with the reference's type."""
        types, lacking = Types(), []
        for method, base in self.reference.returned(struct):
            seen = self.recording.of(method.name)
            if "struct" not in seen.answer.get(base, ()) or (wanted.only and method.name not in wanted.only):
                continue
            path = join(base, wanted.name)
            if path not in seen.answer:
                lacking.append(method.name)
            for at, found in seen.answer.items():
                if at == path or at.startswith(f"{path}[]"):
                    types.setdefault(at.removeprefix(path), set()).update(found)
        if not types:
            reason = self.reasons.absent.get(struct)
            return Verdict(Status.ABSENT, () if reason is None else (reason,))
        verdict = judged(wanted.type, types, "")
        if lacking:
            notes = (*verdict.notes, *(f"not in the answer of {name}" for name in sorted(set(lacking))))
            verdict = Verdict(Status.DIFFERS, notes)
        return self.reasons.applied(f"{struct}.{wanted.name}", verdict)

    def seen_values(self, enumeration: str) -> set[str]:
        """The values of the enumeration that were accepted or answered."""
        return {
            value
            for method, path in self._enumerated(enumeration)
            for value in self.recording.of(method).values.get(path, ())
        }

    def enumerations(self) -> dict[tuple[str, str], str]:
        """The enumeration of each method and path that has one."""
        return {place: one for one in self.reference.values for place in self._enumerated(one)}

    def _enumerated(self, enumeration: str) -> Iterable[tuple[str, str]]:
        for struct, fields in self.reference.returns.items():
            for one in fields:
                if one.values == enumeration:
                    for method, base in self.reference.returned(struct):
                        yield method.name, join(base, one.name)
        for struct, keys in self.reference.parameters.items():
            for one in keys:
                if one.values == enumeration:
                    for method, parameter in self._served(struct):
                        yield method.name, join(parameter.name, one.name)

    def _served(self, struct: str) -> list[tuple[Method, table.Parameter]]:
        """Where the table takes a struct of parameters."""
        taken = [(method, _parameter(method, at)) for method, at in self.reference.taken(struct)]
        return [(method, parameter) for method, parameter in taken if parameter is not None]

    def keys_beyond(self, struct: str) -> list[str]:
        """The keys that the table takes in the struct of parameters, and the reference does not name."""
        taken = {key for _, parameter in self._served(struct) for key in keys_of(parameter)}
        return sorted(taken - {key.name for key in self.reference.parameters[struct]})

    def fields_beyond(self, struct: str) -> list[str]:
        """The fields that were seen in the returned struct, and the reference does not name."""
        returned = {
            path.removeprefix(join(base, ""))
            for method, base in self.reference.returned(struct)
            for path in self.recording.of(method.name).answer
            if path and path != base and path.startswith(join(base, ""))
        }
        named = {field.name for field in self.reference.returns[struct]}
        return sorted({path for path in returned if path and not set(".[") & set(path)} - named)

    def beyond(self) -> list[str]:
        """The methods of the table that the reference does not name."""
        named = {method.name for method in self.reference.methods}
        return [entry.name for entry in table.every() if entry.name not in named]


def _operates(method: Method) -> bool:
    return "OperationReturn" in method.returns and not method.name.startswith("operation.")


def _parameter(method: Method, position: int) -> table.Parameter | None:
    entry = table.lookup(method.name)
    return None if entry is None or position >= len(entry.parameters) else entry.parameters[position]
