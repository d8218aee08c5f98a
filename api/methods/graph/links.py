"""The URLs of graphs: whoever has one sees that graph for a while, and cannot make another."""

import base64
import binascii
import hashlib
import hmac
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """What a graph is about, by the names of `graph_urls`."""

    VCPU = 0
    VDI = 1
    VIF = 2


class Span(IntEnum):
    """How far a graph looks back."""

    HOUR = 0
    DAY = 1

    @property
    def seconds(self) -> int:
        """Its length."""
        return 3600 if self is Span.HOUR else 86400


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph of one of the VM's objects: a disk's or an interface's id, a processor's number."""

    vm_id: int
    kind: Kind
    object_id: int
    span: Span


_FORM = struct.Struct(">IBIBI")
_MARK = 16  # bytes of the HMAC: 128 bits cannot be guessed
_STEADY = 60  # the same URL is given for so many seconds


class Links:
    """Makes and reads URLs with `secret`.

    They are good for `lifetime` seconds, up to a minute more, and begin with `public_url`, else with the root
    that the caller used, else with `fallback`.
    """

    def __init__(
        self,
        secret: bytes,
        lifetime: int,
        public_url: str | None,
        fallback: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secret = secret
        self._lifetime = lifetime
        self._public_url = public_url
        self._fallback = fallback
        self._clock = clock

    def url(self, graph: Graph, root: str) -> str:
        """The graph's URL, for a caller who reached ``/`` as `root`."""
        end = (int(self._clock()) // _STEADY + 1) * _STEADY + self._lifetime
        body = _FORM.pack(graph.vm_id, graph.kind, graph.object_id, graph.span, end)
        token = base64.urlsafe_b64encode(body + self._mark(body)).decode()
        base = self._public_url or root or self._fallback
        return f"{base.rstrip('/')}/graphs/{token}.svg"

    def read(self, token: str) -> Graph | None:
        """The graph that `token` stands for; None when it was not made here, was altered, or has expired."""
        try:
            content = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if base64.urlsafe_b64encode(content).decode() != token:
            return None
        body, mark = content[: _FORM.size], content[_FORM.size :]
        if len(body) != _FORM.size or not hmac.compare_digest(mark, self._mark(body)):
            return None
        vm_id, kind, object_id, span, end = _FORM.unpack(body)
        if self._clock() >= end:
            return None
        return Graph(vm_id, Kind(kind), object_id, Span(span))

    def _mark(self, body: bytes) -> bytes:
        return hmac.digest(self._secret, body, hashlib.sha256)[:_MARK]
