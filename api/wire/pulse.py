"""Telling the service manager that the service answers, and that it is alive: for as long as that is true."""

import http.client
import io
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

from api.wire.systemd import Manager

HEALTH = "/"
"""What is asked for."""

_ANSWER_SECONDS = 10.0
_AGAIN_SECONDS = 1.0

log = logging.getLogger(__name__)


class Pulse:
    """Tells `manager` of gunicorn's `worker`, in a thread of its own.

    READY=1 once a client got an answer, by a real connection. Then WATCHDOG=1, three times in each of its
    periods, as long as the worker's event loop goes round, the application answers and `alive` says so. That
    is asked from inside: whoever keeps all threads or all connections busy must not have the service ended.
    """

    def __init__(self, manager: Manager, worker: Any, alive: Callable[[], bool]) -> None:
        self._manager = manager
        self._worker = worker
        self._alive = alive
        self._never = threading.Event()

    def start(self) -> None:
        """Begin; it ends with the process."""
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def _run(self) -> None:
        while not self._is_served():
            self._never.wait(_AGAIN_SECONDS)
        self._manager.tell("READY=1")
        if self._manager.watchdog is None:
            return
        pause = self._manager.watchdog / 3
        while True:
            if self._is_alive(pause):
                self._manager.tell("WATCHDOG=1")
            self._never.wait(pause)

    def _is_served(self) -> bool:
        listener = self._worker.sockets[0]
        try:
            with socket.socket(listener.FAMILY, socket.SOCK_STREAM) as bare:
                bare.settimeout(_ANSWER_SECONDS)
                bare.connect(listener.getsockname())
                with self._encrypted(bare) as client:
                    connection = http.client.HTTPConnection("localhost")
                    connection.sock = client
                    connection.request("GET", HEALTH)
                    return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException) as error:
            log.warning("it does not answer yet: %s", error)
            return False

    def _encrypted(self, bare: socket.socket) -> socket.socket:
        if self._worker.tls is None:
            return bare
        context = ssl.create_default_context()
        # it is about answers, not about who answers
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(bare)

    def _is_alive(self, seconds: float) -> bool:
        turned = threading.Event()
        self._worker.method_queue.defer(turned.set)
        if not turned.wait(seconds):
            log.error("the server's loop stands still")
            return False
        try:
            status, alive = self._ask(), self._alive()
        except Exception:
            log.exception("the application does not answer")
            return False
        if status != http.HTTPStatus.OK or not alive:
            log.error("the application answers %d, %s", status, "alive" if alive else "but takes up no work")
            return False
        return True

    def _ask(self) -> int:
        environ: dict[str, Any] = {"PATH_INFO": HEALTH, "wsgi.input": io.BytesIO()}
        setup_testing_defaults(environ)
        said: list[str] = []
        answer = self._worker.wsgi(environ, lambda status, _headers: said.append(status))
        b"".join(answer)
        return int(said[0].split()[0])
