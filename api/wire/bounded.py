"""Clients' sockets whose reads and writes have deadlines, bare and with TLS."""

import errno
import socket
import ssl
import time
from contextlib import suppress
from typing import Any

REQUEST_SECONDS = 20.0
"""Time for a whole request, head and body, to arrive, from its first byte on."""

ANSWER_SECONDS = 60.0
"""Time for an answer to be taken."""

LINGER_SECONDS = 0.5
"""Time for the client to close first, so that it can read an answer to a request that was not read to its
end."""

_LINGER_BYTES = 16 * 65536


class SlowClientError(ConnectionResetError, TimeoutError):
    """The client took too long: for the application a timeout, for gunicorn a connection that is gone."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the client is too slow")


class _Bounded(socket.socket):
    """A client's socket whose reads all have to be done before a deadline."""

    _deadline: float | None = None
    _lingered = False

    def start(self) -> None:
        """Allow `REQUEST_SECONDS` from now on for reading."""
        self._deadline = time.monotonic() + REQUEST_SECONDS

    def recv(self, size: int = 1024, flags: int = 0, /) -> bytes:
        """As `socket.recv`; raises `SlowClientError` at the deadline."""
        if self._deadline is None:
            return super().recv(size, flags)
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise SlowClientError
        self.settimeout(remaining)
        try:
            return super().recv(size, flags)
        except TimeoutError:
            raise SlowClientError from None

    def shutdown(self, how: int, /) -> None:
        """As `socket.shutdown`, but once only: gunicorn lingers in its event loop if it succeeds again."""
        if self._lingered:
            raise OSError(errno.ENOTCONN, "shut down already")
        super().shutdown(how)

    def linger(self) -> None:
        """End the answer and wait `LINGER_SECONDS` at most for the client to close (RFC 9112, 9.6)."""
        deadline = self._deadline = time.monotonic() + LINGER_SECONDS
        taken = 0
        try:
            self.shutdown(socket.SHUT_WR)
            while taken < _LINGER_BYTES and time.monotonic() < deadline and (data := self.recv(65536)):
                taken += len(data)
        except OSError:
            pass  # the client is gone, or will not go
        self._lingered = True


class BoundedSocket(_Bounded):
    """One without TLS."""

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As `socket.sendall`; raises `SlowClientError` after `ANSWER_SECONDS`."""
        self.settimeout(ANSWER_SECONDS)
        try:
            super().sendall(data, flags)
        except TimeoutError:
            raise SlowClientError from None

    def pending(self) -> int:
        """How much was received that the kernel no longer holds, in bytes."""
        return 0


class BoundedTlsSocket(_Bounded, ssl.SSLSocket):
    """One with TLS; made by an `ssl.SSLContext` whose `sslsocket_class` it is."""

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As `socket.sendall`; raises `SlowClientError` after `ANSWER_SECONDS`."""
        deadline = time.monotonic() + ANSWER_SECONDS
        # TLS sends it in records, and each of them would have the time anew
        with memoryview(data) as view, view.cast("B") as left:
            sent = 0
            while sent < len(left):
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise SlowClientError
                self.settimeout(remaining)
                try:
                    sent += self.send(left[sent:], flags)
                except TimeoutError:
                    raise SlowClientError from None

    def linger(self) -> None:
        """As without TLS, after word to the client that nothing more comes (close_notify)."""
        with suppress(OSError, ValueError):
            self.setblocking(False)
            self.unwrap()
        super().linger()

    def refuse(self, words: bytes) -> None:
        """Say `words` to a client that speaks no TLS, and take what it sent; call `close` then."""
        with suppress(OSError):
            self.setblocking(False)
            bare = socket.socket(fileno=self.detach())
            with bare:
                bare.send(words)
                bare.shutdown(socket.SHUT_WR)
                bare.recv(65536)
