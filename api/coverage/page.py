"""The page ``docs/coverage.md``: the verdicts, for people."""

import tomllib
from collections import Counter
from collections.abc import Iterable
from importlib import resources

from api.coverage.judge import Reasons, Status
from api.coverage.recording import Recording
from api.coverage.reference import Reference, reference
from api.coverage.section import Section
from api.coverage.verdict import Coverage

_HEAD = """\
# Coverage

Made by `hypervisor coverage` from the reference as data (`api/coverage/reference/`), the method table and
what the tests recorded (`api/coverage/recorded.json`). A method is **done** when it is served and a test had
its answer; a parameter when a call with it was accepted; a field when an answer had it with the reference's
type. What **differs** says how. The rest is **absent**. Values are those that a running service took or gave.
More about differences: [differences.md](differences.md).
"""


def reasons() -> Reasons:
    """The reasons that this package carries."""
    data = tomllib.loads(resources.files(__package__).joinpath("reasons.toml").read_text())
    return Reasons(**data)


def page(recording: Recording, known: Reference | None = None) -> str:
    """The page, from `recording`."""
    known = known or reference()
    coverage = Coverage(known, recording, reasons())
    sections = [Section(coverage, namespace) for namespace in known.namespaces]
    return "".join(
        [
            _HEAD,
            *_summary(sections),
            *(line for section in sections for line in section.lines()),
            *_beyond(coverage),
        ]
    )


def _summary(sections: list[Section]) -> Iterable[str]:
    first = sections[0]
    yield f"\n{_sentence(first)}\n\n"
    yield "| namespace | methods | parameters | fields | values |\n|---|---|---|---|---|\n"
    total = [Counter[Status](), Counter[Status](), Counter[Status](), Counter[Status]()]
    for section in sections:
        counts = [section.methods, section.parameters, section.fields, section.values]
        for sum_, one in zip(total, counts, strict=True):
            sum_.update(one)
        yield f"| `{section.namespace.name}` | {' | '.join(map(_counted, counts))} |\n"
    yield f"| all | {' | '.join(map(_counted, total))} |\n"


def _sentence(section: "Section") -> str:
    open_ones = [
        method
        for method in section.namespace.methods
        if section.coverage.method(method).status is Status.ABSENT
    ]
    there, total = len(section.namespace.methods) - len(open_ones), len(section.namespace.methods)
    topics = sorted({method.topic or method.name.rpartition(".")[2] for method in open_ones})
    rest = f", {len(open_ones)} open ({', '.join(topics)})" if open_ones else ""
    return f"{there} of {total} methods of {section.namespace.name}{rest}."


def _counted(counts: Counter[Status]) -> str:
    if not counts:
        return ""
    there = counts[Status.DONE] + counts[Status.DIFFERS]
    differing = f", {counts[Status.DIFFERS]} differ" if counts[Status.DIFFERS] else ""
    return f"{there} of {counts.total()}{differing}"


def _beyond(coverage: Coverage) -> Iterable[str]:
    names = coverage.beyond()
    if names:
        yield f"\n## Beyond the reference\n\n{', '.join(f'`{name}`' for name in names)}\n"
