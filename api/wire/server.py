"""The server: one gunicorn master that watches, one worker process that answers with threads.

The worker holds everything that must exist once (the engine, the connection to libvirt), so there is never
more than one: gunicorn's signals that would start a second (HUP, TTIN, TTOU, USR2) are ignored.
"""

import logging
import mmap
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import AppImportError, HaltServer

from api.store.errors import StoreError
from api.wire.listen import (
    Inherited,
    Listen,
    Tcp,
    Unix,
    listener,
    open_listener,
    parse_listen,
    remove,
)
from api.wire.pulse import Pulse
from api.wire.systemd import Manager
from api.wire.tls import Tls, TlsError
from api.wire.worker import BoundedWorker
from hypervisor.errors import HypervisorError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Inherited", "Listen", "Tcp", "Unix", "open_listener", "parse_listen", "serve"]

THREADS = 16
"""Requests answered at the same time."""

KEEP_ALIVE = 15
"""Seconds that a connection may be idle: clients that poll come back every one or two."""

DRAIN = 10
"""Seconds that requests have to finish after SIGTERM."""

STOP = 20
"""Seconds that `on_stop` has after that, before the worker is killed."""

CONNECTIONS = 16_384
"""Open connections at most, or as many as the system allows open files; an idle one takes two kilobytes."""

ORPHANED = 1.0
"""Seconds in which a worker whose master is gone has to end: its successor may already be starting."""

# databases, libvirt, consoles, pipes
_OTHER_FILES = 512
# what a person can mend: its text says how
_MENDABLE = (HypervisorError, StoreError, TlsError, OSError)

_log = logging.getLogger(__name__)


def serve(
    listen: Sequence[Listen],
    on_start: "Callable[[], WSGIApplication]",
    on_stop: Callable[[], None],
    ready: Callable[[], None],
    threads: int = THREADS,
    tls: Tls | None = None,
    manager: Manager | None = None,
    alive: Callable[[], bool] = lambda: True,
) -> None:
    """Serve at all of `listen` until SIGTERM, SIGINT or SIGQUIT, and tell the service `manager` how it goes:
    in the worker, `alive` says whether that is still worth anything.

    Runs in the main thread, without other threads: the worker is forked from here. In the worker run
    `on_start`, which opens everything and gives the application, then `ready`, once, when requests are
    answered, and at the end `on_stop`, unless `on_start` failed. The worker leaves with `os._exit`: nothing
    of the caller's stack is unwound twice, and no handler of `atexit` runs in it. A worker that dies later is
    replaced, with a new `on_start`. With `tls`, all of `listen` speak it and nothing else.

    Raises `OSError` when it cannot listen, `SystemExit` when the worker could not start (its reason is on
    stderr).
    """
    before = {number: signal.getsignal(number) for number in (*Arbiter.SIGNALS, signal.SIGCHLD)}
    bind = [f"fd://{listener(each).detach()}" for each in listen]
    manager = manager or Manager()
    application = _Gunicorn(bind, _Worker(on_start, on_stop, ready, tls, manager, alive), threads)
    master = os.getpid()
    status: Any = 0
    try:
        served = _Master(application)
        served.manager = manager
        served.run()
    except SystemExit as end:
        status = end.code
    finally:
        if os.getpid() != master:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(status if isinstance(status, int) else 1)
        for number, handler in before.items():
            signal.signal(number, handler)
        for each in listen:
            remove(each)
    if status:
        raise SystemExit(status)


def _open_files() -> int:
    """How many files this process may have open from now on: as many as it needs and may allow itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft


class _Worker:
    """The life of the worker process, as gunicorn's hooks see it."""

    def __init__(
        self,
        on_start: "Callable[[], WSGIApplication]",
        on_stop: Callable[[], None],
        ready: Callable[[], None],
        tls: Tls | None,
        manager: Manager,
        alive: Callable[[], bool],
    ) -> None:
        self._on_start, self._on_stop, self._ready = on_start, on_stop, ready
        self._tls, self._manager, self._alive = tls, manager, alive
        self._watched, self._held = os.pipe()
        # shared by master and worker: whether a worker ever answered requests
        self._answered = mmap.mmap(-1, 1)
        self._started = False

    def forked(self, arbiter: Arbiter, worker: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        os.close(self._held)
        worker.cfg.set("graceful_timeout", DRAIN)
        if self._tls is not None:
            worker.tls = self._tls
            # to gunicorn: requests come by https
            worker.cfg.set("certfile", str(self._tls.cert))
        threading.Thread(target=self._watch_master, name="master watch", daemon=True).start()

    def _watch_master(self) -> None:
        os.read(self._watched, 1)  # returns when the last holder of the other end, the master, is gone
        _log.critical("the master process is gone, stopping")
        os.kill(os.getpid(), signal.SIGQUIT)
        time.sleep(ORPHANED)
        os._exit(1)

    def load(self) -> "WSGIApplication":
        try:
            if self._tls is not None:
                self._tls.open()
            application = self._on_start()
        except _MENDABLE as error:
            # gunicorn shows no more of this one than its text
            raise AppImportError(f"The service cannot start: {error}") from error
        except Exception as error:
            raise RuntimeError(f"The service cannot start: {error}") from error
        self._started = True
        return application

    def answers(self, worker: Any) -> None:
        if self._answered[0] == 0:
            self._ready()
            self._answered[0] = 1
        if self._manager.listens:
            Pulse(self._manager, worker, self._alive).start()

    def exits(self, arbiter: Arbiter, worker: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        # gunicorn calls this in the master too, for a worker it could not signal
        if self._started and os.getpid() == worker.pid:
            self._on_stop()

    def ended(self, arbiter: Any, worker: Any) -> None:
        """In the master: a worker that never got to answer is not tried again."""
        if self._answered[0] == 0 and not arbiter.stopping:
            reason = f"The service cannot start: its process {worker.pid} ended."
            raise HaltServer(reason, arbiter.WORKER_BOOT_ERROR)


class _Gunicorn(BaseApplication):  # type: ignore[misc] # gunicorn ships no types
    """gunicorn's settings, all from here: no file, no environment, no arguments."""

    def __init__(self, bind: list[str], worker: _Worker, threads: int) -> None:
        self._settings = {
            "bind": bind,
            "workers": 1,
            "worker_class": BoundedWorker,
            "threads": threads,
            # beyond that many, everybody waits until idle ones are let go
            "worker_connections": max(threads + 1, min(CONNECTIONS, _open_files() - _OTHER_FILES)),
            "keepalive": KEEP_ALIVE,
            "graceful_timeout": DRAIN + STOP,
            # no heartbeat: on_start may take long, and a slow engine on a busy host must not be killed
            "timeout": 0,
            "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108
            "umask": 0o077,
            "loglevel": "warning",
            "forwarded_allow_ips": "",
            "proxy_protocol": "off",
            "control_socket_disable": True,
            "post_fork": worker.forked,
            "post_worker_init": worker.answers,
            "worker_exit": worker.exits,
            "child_exit": worker.ended,
        }
        self._worker = worker
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            if name in self.cfg.settings:  # the control socket came with gunicorn 25
                self.cfg.set(name, value)

    def load(self) -> "WSGIApplication":
        return self._worker.load()


class _Master(Arbiter):  # type: ignore[misc] # gunicorn ships no types
    """gunicorn's master, without what would run two workers side by side."""

    APP_LOAD_ERROR = Arbiter.WORKER_BOOT_ERROR
    stopping = False
    manager = Manager()

    def stop(self, graceful: bool = True) -> None:
        self.stopping = True
        self.manager.tell("STOPPING=1")
        self.systemd = True  # to gunicorn: the paths of the sockets are not its own to remove
        super().stop(graceful)

    def handle_hup(self) -> None:
        self.log.warning("SIGHUP is ignored: settings are read at the start, certificates when they change")

    def handle_ttin(self) -> None:
        self.log.warning("SIGTTIN is ignored: there is one worker process")

    def handle_ttou(self) -> None:
        self.log.warning("SIGTTOU is ignored: there is one worker process")

    def handle_usr2(self) -> None:
        self.log.warning("SIGUSR2 is ignored: restart the service instead")
