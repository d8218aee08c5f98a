"""The process that answers: gunicorn's threaded worker, with bounds on what one client may cost the others.

Read in the source of gunicorn 27: the worker takes a thread for every new connection, waits there without
limit for the rest of a request, and closes connections in its event loop, up to two seconds each; a TLS
handshake holds a thread for as long as the client likes. Here a connection waits for its first bytes in the
event loop, TLS handshakes happen there too, a request has to be there within `REQUEST_SECONDS`, and the slow
part of closing happens in a thread. And its handler of SIGINT and SIGQUIT waits for a lock that the
interrupted code may hold: a signal while a thread is started would end nothing.
"""

import selectors
import socket
import ssl
import time
from functools import partial
from http import HTTPStatus
from types import FrameType
from typing import Any

from gunicorn import util
from gunicorn.http import errors, get_parser
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import ThreadWorker

from api.wire.bounded import LINGER_SECONDS, BoundedSocket, BoundedTlsSocket
from api.wire.tls import Tls

_NOT_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This server speaks TLS: the URL begins with https.\n"
)


class BoundedWorker(ThreadWorker):  # type: ignore[misc] # gunicorn ships no types
    """`ThreadWorker` that idle, slow and half-closed clients cannot hold up."""

    tls: Tls | None = None
    """What connections are encrypted with."""

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection with something to read to a thread; new ones wait for that in the event loop."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        if self.tls is None:
            conn.sock = BoundedSocket(fileno=conn.sock.detach())
            self._wait(conn, partial(self.on_pending_socket_readable, conn))
            return
        try:
            context = self.tls.context()
            conn.sock = context.wrap_socket(conn.sock, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError):  # it is gone already
            self._drop(conn)
        else:
            self._wait(conn, partial(self._shake_hands, conn))

    def _wait(self, conn: Any, wake: Any) -> None:
        """Call `wake` when there is something to read, and drop the connection when that takes too long."""
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + self.cfg.keepalive
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, wake)

    def _shake_hands(self, conn: Any, sock: BoundedTlsSocket) -> None:
        """Go on with the handshake as far as it goes without waiting."""
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self.poller.modify(sock, selectors.EVENT_READ, partial(self._shake_hands, conn))
            return
        except ssl.SSLWantWriteError:
            self.poller.modify(sock, selectors.EVENT_WRITE, partial(self._shake_hands, conn))
            return
        except (OSError, ValueError) as error:
            self._leave_loop(conn)
            if getattr(error, "reason", None) == "HTTP_REQUEST":
                sock.refuse(_NOT_TLS)
            self._drop(conn)
            return
        self._leave_loop(conn)
        # what gunicorn would do in a thread, handshake included
        conn.parser = get_parser(self.cfg, sock, conn.client)
        conn.initialized = True
        self._wait(conn, partial(self.on_pending_socket_readable, conn))

    def _leave_loop(self, conn: Any) -> None:
        self.poller.unregister(conn.sock)
        self.pending_conns.remove(conn)

    def _drop(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Keep the connection or close it; what TLS has already read of a next request wakes nobody."""
        super().finish_request(conn, fs)
        if self.keepalived_conns and self.keepalived_conns[-1] is conn and conn.sock.pending():
            self.on_client_socket_readable(conn, conn.sock)

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

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """End at once, without a word to the threads: the process leaves without waiting for them."""
        Worker.handle_quit(self, sig, frame)

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
