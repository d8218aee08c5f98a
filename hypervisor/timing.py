"""How long what is asked of libvirt takes, told to whoever listens."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something that was tried: one call of libvirt, or a few that belong together.

    `area` is the part of this package that tried it (``domain``, ``network``, ``storage``, ``connection``).
    `failure` is the name of the error's class, None when it succeeded.
    """

    area: str
    text: str
    seconds: float
    failure: str | None


Listener = Callable[[Attempt], None]

listeners: list[Listener] = []
"""Called after each attempt, in the thread that made it; they must not raise."""


def area(depth: int) -> str:
    """The part of this package in which the caller's caller, `depth` frames up, is."""
    module: str = sys._getframe(depth + 1).f_globals["__name__"]
    return module.split(".")[1] if "." in module else module


def tell(where: str, text: str, begun: float, failure: str | None) -> None:
    """Tell the listeners of an attempt that began at `begun` of `time.perf_counter`."""
    if listeners:
        attempt = Attempt(where, text, time.perf_counter() - begun, failure)
        for listener in listeners:
            listener(attempt)
