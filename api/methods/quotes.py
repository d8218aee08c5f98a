"""Whether a message repeats what a caller sent, which may be an API key, a password or a script."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PIECE = 6


def repeats(message: str, sent: Any) -> bool:
    """Whether a part of a text in `sent` is in `message`; names of members do not count."""
    # pieces, because messages shorten long values; shorter texts than a piece only count as a whole
    pieces = {message[at : at + _PIECE] for at in range(len(message) - _PIECE + 1)}
    return any(
        (len(text) >= _PIECE and any(piece in text for piece in pieces))
        or (len(text) > 3 and text in message)
        for text in _texts(sent)
    )


def _texts(value: Any) -> Iterator[str]:
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
