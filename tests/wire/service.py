"""A server for the tests: ``python service.py ADDRESS MODE DIRECTORY [CERT KEY]``, ended by a signal.

It leaves in DIRECTORY what happened: `ready`, `started`, `stopped` (process ids) and `stop-order`.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from api.methods.faults import unknown_method
from api.wire import server
from api.wire.application import Application
from api.wire.server import Listen, parse_listen, serve
from api.wire.systemd import Manager
from api.wire.tls import Tls
from api.wire.values import Value

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


STUCK = threading.Lock()


class Stuck(Application):
    """An application that a call of `stuck` holds up as a whole."""

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """One request."""
        if environ["REQUEST_METHOD"] == "GET":
            with STUCK:
                pass
        return super().__call__(environ, start_response)


def dispatch(method: str, arguments: Sequence[Value], remote_address: str, root: str, /) -> Value:
    """Methods that show what a server does."""
    match method, *arguments:
        case "echo", *values:
            return values
        case "date", datetime() as date:
            return date
        case "sleep", float() as seconds:
            time.sleep(seconds)
            return None
        case "where", *_:
            return remote_address
        case "root", *_:
            return root
        case "stuck", float() as seconds:
            # as a deadlock would: everybody who wants to answer waits
            with STUCK:
                time.sleep(seconds)
            return None
        case "pid", *_:
            return os.getpid()
        case "die", *_:
            os._exit(9)
    raise unknown_method(method)


def starter(mode: str, directory: Path) -> "Callable[[], WSGIApplication]":
    """What opens everything, or fails in the way that `mode` says."""

    def start() -> "WSGIApplication":
        with (directory / "started").open("a") as log:
            log.write(f"{os.getpid()}\n")
        match mode:
            case "fail":
                raise RuntimeError("libvirt does not answer")
            case "exit":
                sys.exit(0)
            case "crash":
                os.abort()
        return Stuck(dispatch)

    return start


def main(address: str, mode: str, directory: Path, tls: Tls | None = None) -> None:
    """Serve, then say that the caller's code goes on, once and in the master."""
    logging.basicConfig(level=logging.INFO)

    def stop() -> None:
        (directory / "stopped").write_text(f"{os.getpid()}\n")
        if mode == "hang":
            time.sleep(60)

    def ready() -> None:
        with (directory / "ready").open("a") as log:
            log.write(f"{os.getpid()}\n")

    if mode == "hasty":
        server.KEEP_ALIVE = 2
    if mode == "tardy":
        # as on a busy host: a new thread is through with its work before the one that started it goes on
        begin = ThreadPoolExecutor._adjust_thread_count

        def begin_slowly(pool: ThreadPoolExecutor) -> None:
            begin(pool)
            time.sleep(1)

        patch.object(ThreadPoolExecutor, "_adjust_thread_count", begin_slowly).start()
    try:
        manager = Manager.found()
        listen: list[Listen] = [*manager.others()] or [parse_listen(address)]
        serve(listen, starter(mode, directory), stop, ready, threads=16, tls=tls, manager=manager)
    finally:
        with (directory / "after").open("a") as log:
            log.write(f"{os.getpid()}\n")


if __name__ == "__main__":
    files = [Path(one) for one in sys.argv[4:]]
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Tls(files[0], files[1]) if files else None)
