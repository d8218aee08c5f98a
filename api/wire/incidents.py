"""What the log gets of an exception that nobody expected: where and what, never what the caller sent.

Messages of exceptions quote values (a database error quotes its parameters), and values can be API keys,
passwords and scripts. A message that repeats a part of the arguments is left out; where it was raised stays.
"""

import traceback
from collections.abc import Iterator, Mapping, Sequence

from api.wire.values import Value

_PIECE = 6
_LONGEST_MESSAGE = 2000


def describe(error: BaseException, arguments: Sequence[Value]) -> str:
    """The traceback of `error` and of what it came from, oldest first, without text of `arguments` in it."""
    given = list(_texts(arguments))
    parts = []
    for link in _chain(error):
        message = str(link)[:_LONGEST_MESSAGE]
        if _quotes(message, given):
            message = "[message left out: it repeats what was sent]"
        parts += [*traceback.format_tb(link.__traceback__), f"{type(link).__qualname__}: {message}\n"]
    return "".join(parts).rstrip()


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.insert(0, link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return chain


def _texts(value: Value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("latin-1")
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts(item)


def _quotes(message: str, given: Sequence[str]) -> bool:
    # pieces, because messages shorten long values; shorter texts than a piece only count as a whole
    pieces = {message[at : at + _PIECE] for at in range(len(message) - _PIECE + 1)}
    return any(
        (len(text) >= _PIECE and any(piece in text for piece in pieces))
        or (len(text) > 3 and text in message)
        for text in given
    )
