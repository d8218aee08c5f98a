"""What each log line says about the work that it belongs to: request, account, operation, job, VM.

The facts are in a context variable, so they follow a request through its thread, and an operation through its
coroutines and the threads that these ask (`asyncio.to_thread` copies the context).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

Facts = Mapping[str, str | int]

_facts: ContextVar[dict[str, str | int] | None] = ContextVar("facts", default=None)


@contextmanager
def bound(**facts: str | int) -> Iterator[None]:
    """Let log lines inside the block carry `facts`, beside those of the blocks around it."""
    token = _facts.set({**(_facts.get() or {}), **facts})
    try:
        yield
    finally:
        _facts.reset(token)


def note(**facts: str | int | None) -> None:
    """Have the block that surrounds this, in whichever of its threads, carry `facts` from now on; None takes
    one away. Does nothing outside of all blocks."""
    held = _facts.get()
    if held is None:
        return
    for name, fact in facts.items():
        if fact is None:
            held.pop(name, None)
        else:
            held[name] = fact


def facts() -> Facts:
    """What is known of the work at this point, in the order in which it became known."""
    return dict(_facts.get() or {})
