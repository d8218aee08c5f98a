"""Points in time, brought to intervals of equal length."""

from collections.abc import Iterable, Iterator
from typing import Literal

from api.store.statistics import Point

Function = Literal["avg", "max", "min", "sum"]


def sampled(
    line: Iterable[Point], start: float, step: int, count: int, function: Function
) -> list[float | None]:
    """One value for each of `count` intervals of `step` seconds from `start` on, None where nothing is known.

    A point counts for an interval as far as it lies in it; ``sum`` is the total, the others are a second's.
    """
    totals = [0.0] * count
    covered = [0.0] * count
    lowest: list[float] = [float("inf")] * count
    highest: list[float] = [float("-inf")] * count
    for one in line:
        for number, seconds in _shares(one, start, step, count):
            totals[number] += one.value * seconds
            covered[number] += seconds
            lowest[number] = min(lowest[number], one.value)
            highest[number] = max(highest[number], one.value)
    chosen = {
        "avg": [total / seconds if seconds else 0.0 for total, seconds in zip(totals, covered, strict=True)],
        "max": highest,
        "min": lowest,
        "sum": totals,
    }[function]
    return [value if seconds else None for value, seconds in zip(chosen, covered, strict=True)]


def _shares(one: Point, start: float, step: int, count: int) -> Iterator[tuple[int, float]]:
    """The intervals that the point lies in, with the seconds of it that are theirs."""
    began, ended = one.at - one.seconds - start, one.at - start
    for number in range(max(0, int(began // step)), min(count, int(-(-ended // step)))):
        seconds = min(ended, (number + 1) * step) - max(began, number * step)
        if seconds > 0:
            yield number, seconds
