"""Waiting for what other processes do, with a deadline and words for the failure."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# how often is looked, in seconds
STEP = 0.05


def until(look: Callable[[], T], seconds: float, failure: str | Callable[[], str]) -> T:
    """The first true answer of `look`; fails with `failure` when there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            said = failure if isinstance(failure, str) else failure()
            raise AssertionError(f"not within {seconds:g} s: {said}")
        time.sleep(STEP)
    return found
