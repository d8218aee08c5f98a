"""The recording of a whole run, beside what the committed one claims."""

from pathlib import Path

from api.coverage.claims import claimed_beyond
from api.coverage.recording import Recording, load

FOLDER = "TESTS_RECORDING"
"""The variable that names the folder in which each pytest process leaves what it saw."""


def keep(folder: Path, file: Path) -> Recording:
    """Lay together what the processes left in `folder`, as one recording in `file`."""
    seen = Recording()
    for piece in sorted(folder.glob("*.json")):
        seen.merge(load(piece))
    file.write_text(seen.dump())
    return seen


def compare(claims: Recording, seen: Recording) -> int:
    """Tell what `claims` and `seen` do not share: 1 when more is claimed than was seen, else 0."""
    missing, new = claimed_beyond(claims, seen), claimed_beyond(seen, claims)
    for line in missing:
        print(f"claimed, but not seen: {line}")
    if missing:
        print(
            "docs/coverage.md claims more than this run has seen. When that is meant to be so: make coverage"
        )
    elif new:
        print(f"seen, but not claimed yet ({len(new)}): {'; '.join(new[:5])}{' ...' if new[5:] else ''}")
        print("To claim it in docs/coverage.md: make coverage")
    return 1 if missing else 0
