"""The process that answers: gunicorn's threaded worker, with bounds on what one client may cost the others.

Read in the source of gunicorn 27: the worker takes a thread for every new connection, waits there without
limit for the rest of a request, and closes connections in its event loop, up to two seconds each. Here a
connection waits for its first bytes in the event loop, a request has to be there within `REQUEST_SECONDS`,
and the slow part of closing happens in a thread.
"""

import errno
import selectors
import socket
import time
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

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


class BoundedSocket(socket.socket):
    """A client's socket whose reads all have to be done before a deadline."""

    _deadline = float("inf")
    _lingered = False

    def start(self) -> None:
        """Allow `REQUEST_SECONDS` from now on for reading."""
        self._deadline = time.monotonic() + REQUEST_SECONDS

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As `socket.recv`; raises `SlowClientError` at the deadline."""
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise SlowClientError
        self.settimeout(remaining)
        try:
            return super().recv(size, flags)
        except TimeoutError:
            raise SlowClientError from None

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As `socket.sendall`; raises `SlowClientError` after `ANSWER_SECONDS`."""
        self.settimeout(ANSWER_SECONDS)
        try:
            super().sendall(data, flags)
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


class BoundedWorker(ThreadWorker):  # type: ignore[misc] # gunicorn ships no types
    """`ThreadWorker` that idle, slow and half-closed clients cannot hold up."""

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection with something to read to a thread; new ones wait for that in the event loop."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        conn.sock = BoundedSocket(fileno=conn.sock.detach())
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + self.cfg.keepalive
        self.pending_conns.append(conn)
        wake = partial(self.on_pending_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, wake)

    def handle(self, conn: Any) -> Any:
        """Serve one request, in a thread; what is false ends the connection."""
        conn.sock.start()
        kept = super().handle(conn)
        if not kept:
            conn.sock.linger()
        return kept

    def set_accept_enabled(self, enabled: bool) -> None:
        """When the worker stops, do not wait for connections that never sent anything."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            for conn in self.pending_conns:
                conn.timeout = min(conn.timeout, time.monotonic() + LINGER_SECONDS)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer what is not HTTP, and log its kind only.

        Its text may be a secret: with a wrong Content-Length, the rest of a body is read as a request line.
        """
        if not isinstance(exc, errors.ParseException):
            super().handle_error(req, client, addr, exc)
            return
        status = HTTPStatus.BAD_REQUEST
        if isinstance(exc, errors.LimitRequestLine):
            status = HTTPStatus.REQUEST_URI_TOO_LONG
        elif isinstance(exc, errors.LimitRequestHeaders):
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        elif isinstance(exc, errors.UnsupportedTransferCoding):
            status = HTTPStatus.NOT_IMPLEMENTED
        address = addr[0] if addr else "unix"
        self.log.warning("%s sent what is not HTTP: %s", address, type(exc).__name__)
        try:
            util.write_error(client, status.value, status.phrase, "")
        except OSError:
            self.log.debug("%s did not wait for the answer", address)
