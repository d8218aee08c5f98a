"""What travels in calls and answers, and who answers."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeAlias

Value: TypeAlias = (
    bool | int | float | str | bytes | datetime | Sequence["Value"] | Mapping[str, "Value"] | None
)
"""A value of XML-RPC. Requests arrive as `list` and `dict`; dates are naive and mean UTC; integers have 32
bits."""


class Dispatcher(Protocol):
    """Whoever answers the calls."""

    def __call__(self, method: str, arguments: Sequence[Value], remote_address: str, root: str, /) -> Value:
        """The answer of `method`, called with `arguments` (the API key among them) from `remote_address`.

        `root` is the URL of ``/`` as the caller named it, empty when it named no host.

        Raises `Fault` for what is to be told to the caller; anything else raised is a defect of the server.
        """


class Graphs(Protocol):
    """Whoever draws."""

    def __call__(self, token: str, /) -> bytes | None:
        """The SVG that `token` stands for, None when it stands for nothing."""
