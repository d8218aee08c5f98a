"""What the log gets of an exception that nobody expected: where and what, never what the caller sent.

Messages of exceptions quote values (a database error quotes its parameters), and values can be API keys,
passwords and scripts. A message that repeats a part of the arguments is left out; where it was raised stays.
"""

import traceback
from collections.abc import Sequence

from api.methods.quotes import repeats
from api.wire.values import Value

_LONGEST_MESSAGE = 2000


def describe(error: BaseException, arguments: Sequence[Value]) -> str:
    """The traceback of `error` and of what it came from, oldest first, without text of `arguments` in it."""
    parts = []
    for link in _chain(error):
        message = str(link)[:_LONGEST_MESSAGE]
        if repeats(message, arguments):
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
