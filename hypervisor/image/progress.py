"""How a build tells how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Called with the step at hand and the share of the whole work that is done (0 to 1)."""

    def __call__(self, step: str, fraction: float) -> None: ...


def silent(step: str, fraction: float) -> None:
    """Report to nobody."""


def part(whole: Progress, start: float, end: float) -> Progress:
    """Give one stage of the work its own 0 to 1, shown as `start` to `end` of the whole."""

    def report(step: str, fraction: float) -> None:
        whole(step, start + (end - start) * min(max(fraction, 0.0), 1.0))

    return report
