"""The part of the page about one namespace."""

from collections import Counter
from collections.abc import Iterable

from api.coverage.judge import Status, Verdict
from api.coverage.reference import Field, Method, Namespace
from api.coverage.verdict import Coverage


class Section:
    """One namespace: its tables, and the counts of its verdicts."""

    def __init__(self, coverage: Coverage, namespace: Namespace) -> None:
        self.coverage = coverage
        self.namespace = namespace
        self.methods: Counter[Status] = Counter()
        self.parameters: Counter[Status] = Counter()
        self.fields: Counter[Status] = Counter()
        self.values: Counter[Status] = Counter()
        self._lines = [*self._methods(), *self._structs(), *self._values()]

    def lines(self) -> list[str]:
        """The section of the page."""
        return [f"\n## {self.namespace.name}\n", *self._lines]

    def _methods(self) -> Iterable[str]:
        yield "\n| method | returns | status | how |\n|---|---|---|---|\n"
        for method in self.namespace.methods:
            verdict = self.coverage.method(method)
            self.methods[verdict.status] += 1
            notes = list(verdict.notes)
            for position, parameter in enumerate(method.takes):
                argument = self.coverage.argument(method, position)
                self.parameters[argument.status] += 1
                if verdict.status is not Status.ABSENT:
                    notes += self._about(parameter, argument)
            row = [f"`{_signature(method)}`", method.returns, *_shown(verdict.status, notes)]
            yield f"| {' | '.join(row)} |\n"
        refused = [
            f"`{method.name.rpartition('.')[2]}` {', '.join(map(str, sorted(codes)))}"
            for method in self.namespace.methods
            if (codes := self.coverage.recording.of(method.name).faults)
        ]
        if refused:
            yield f"\nFaults seen: {'; '.join(refused)}.\n"

    @staticmethod
    def _about(parameter: Field, verdict: Verdict) -> list[str]:
        if verdict.status is Status.DONE and not verdict.notes:
            return []
        said = ", ".join(verdict.notes) or str(verdict.status)
        return [f"`{parameter.name}`: {said}"]

    def _structs(self) -> Iterable[str]:
        for struct, keys in self.namespace.parameters.items():
            takers = sorted({method.name for method, _ in self.coverage.reference.taken(struct)})
            yield f"\n### {struct}\n\nTaken by {_listed(takers)}.\n\n"
            yield "| key | type | status | how |\n|---|---|---|---|\n"
            for key in keys:
                verdict = self.coverage.key(struct, key)
                self.parameters[verdict.status] += 1
                yield _row(key, verdict)
            yield from _also("taken", self.coverage.keys_beyond(struct))
        for struct, fields in self.namespace.returns.items():
            givers = sorted({method.name for method, _ in self.coverage.reference.returned(struct)})
            yield f"\n### {struct}\n\nReturned by {_listed(givers)}.\n\n"
            yield "| field | type | status | how |\n|---|---|---|---|\n"
            for field in fields:
                verdict = self.coverage.field(struct, field)
                self.fields[verdict.status] += 1
                yield _row(field, verdict)
            yield from _also("returned", self.coverage.fields_beyond(struct))

    def _values(self) -> Iterable[str]:
        if self.namespace.values:
            yield "\n### Values\n\n| values | seen | never seen |\n|---|---|---|\n"
        for name, values in self.namespace.values.items():
            seen = self.coverage.seen_values(name)
            for value in values:
                self.values[Status.DONE if value in seen else Status.ABSENT] += 1
            there = [value for value in values if value in seen] + sorted(seen - set(values))
            unseen = [value for value in values if value not in seen]
            yield f"| {name} | {', '.join(there)} | {', '.join(unseen)} |\n"


def _listed(names: list[str]) -> str:
    if len(names) > 6:
        return f"{len(names)} methods"
    return ", ".join(f"`{name}`" for name in names) or "no method"


def _also(done: str, names: list[str]) -> Iterable[str]:
    if names:
        yield f"\nAlso {done}, beyond the reference: {', '.join(f'`{name}`' for name in names)}.\n"


def _signature(method: Method) -> str:
    taken = [one.name if one.mandatory else f"[{one.name}]" for one in method.takes]
    return f"{method.name.rpartition('.')[2]}({', '.join(taken)})"


def _row(field: Field, verdict: Verdict) -> str:
    kind = field.type
    if field.mandatory:
        kind += ", mandatory"
    if field.default is not None:
        kind += f", default {field.default}"
    return f"| {' | '.join([f'`{field.name}`', kind, *_shown(verdict.status, verdict.notes)])} |\n"


def _shown(status: Status, notes: Iterable[str]) -> tuple[str, str]:
    # what is not done stands out
    return status if status is Status.DONE else f"**{status}**", "; ".join(notes)
