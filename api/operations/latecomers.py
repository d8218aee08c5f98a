"""Datacenters whose hosts did not answer when the service started."""

import logging
import threading
from collections.abc import Callable, Iterable

from api.operations.hosts import Hosts
from hypervisor.errors import HypervisorError
from hypervisor.events import Event, Kind
from hypervisor.libvirt_errors import Unavailable

log = logging.getLogger(__name__)


class Latecomers:
    """Calls `welcome` with the id of each datacenter in `waiting`, when its host is there, until it
    succeeds."""

    def __init__(self, hosts: Hosts, waiting: Iterable[int], welcome: Callable[[int], None]) -> None:
        self._hosts = hosts
        self._waiting = set(waiting)
        self._welcome = welcome
        self._came = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="latecomers", daemon=True)

    def __call__(self, event: Event) -> None:
        """Take an event: a new connection may be one that is waited for."""
        if event.kind is Kind.RESYNC:
            self._came.set()

    def start(self) -> None:
        """Begin to wait; look once at once."""
        self._came.set()
        self._thread.start()

    def stop(self) -> None:
        """End; a host that hangs is not waited for."""
        self._ending = True
        self._came.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        told: dict[int, str] = {}
        while self._waiting:
            self._came.wait()
            self._came.clear()
            for one in sorted(self._waiting):
                if self._ending:
                    return
                try:
                    self._welcome(one)
                except Unavailable:
                    continue
                except HypervisorError as error:
                    if told.get(one) != str(error):
                        log.warning("datacenter %s cannot be used: %s", self._hosts.code(one), error)
                    told[one] = str(error)
                else:
                    log.info("datacenter %s can be used from now on", self._hosts.code(one))
                    self._waiting.discard(one)
