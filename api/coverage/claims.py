"""What a recording claims: all that the next run will see again, a line each."""

from collections.abc import Iterator, Mapping

from api.coverage.judge import Reasons
from api.coverage.recording import EMPTY, Recording, Seen
from api.coverage.reference import reference
from api.coverage.verdict import Coverage

# types that prove nothing, and states that are over before a test has asked for them
_NO_CLAIMS = {"nil", EMPTY, "BILL", "WAIT", "RUN", "being_created", "being_migrated"}


def claims(recording: Recording) -> list[str]:
    """The claims about each method, and about each enumeration the values that any method showed.

    The page shows them so, and which operations a list has at some moment is chance.
    """
    enumerations = Coverage(reference(), recording, Reasons()).enumerations()
    # several methods make the same claim about an enumeration
    return list(
        dict.fromkeys(
            line for name, seen in sorted(recording.items()) for line in _lines(name, seen, enumerations)
        )
    )


def claimed_beyond(claimed: Recording, seen: Recording) -> list[str]:
    """What `claimed` claims and `seen` does not, a line each."""
    there = set(claims(seen))
    return [line for line in claims(claimed) if line not in there]


def _lines(name: str, seen: Seen, enumerations: Mapping[tuple[str, str], str]) -> Iterator[str]:
    yield from (f"{name}: called as {one}" for one in sorted(seen.names))
    yield from (f"{name}: fault {code}" for code in sorted(seen.faults))
    for what, types in (("parameter", seen.parameters), ("answer", seen.answer)):
        for path, found in sorted(types.items()):
            for one in sorted(found - _NO_CLAIMS):
                yield f"{name}: {what} {path or '(all of it)'}: {one}"
    for path, found in sorted(seen.values.items()):
        subject = enumerations.get((name, path))
        where = f"{name}: value of {path}" if subject is None else f"value of {subject}"
        yield from (f"{where}: {one}" for one in sorted(found - _NO_CLAIMS))
    yield from (f"{name}: parameter {path}: operation DONE" for path in sorted(seen.carried))
