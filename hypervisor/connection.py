"""The connection to libvirt: one for the process, shared by its threads, restored when it breaks."""

import logging
import threading
from typing import Any

import libvirt

from hypervisor.events import Event, Events, Kind
from hypervisor.libvirt_errors import Unavailable

log = logging.getLogger(__name__)

Handle = libvirt.virConnect

_LIFECYCLE = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: Kind.DEFINED,
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: Kind.UNDEFINED,
    libvirt.VIR_DOMAIN_EVENT_STARTED: Kind.STARTED,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: Kind.SUSPENDED,
    libvirt.VIR_DOMAIN_EVENT_RESUMED: Kind.RESUMED,
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: Kind.SHUTDOWN,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: Kind.STOPPED,
    libvirt.VIR_DOMAIN_EVENT_CRASHED: Kind.CRASHED,
}

_loop_lock = threading.Lock()
_loop_running = False


def _run_event_loop() -> None:
    # libvirt wants its event loop registered before the first open, once in a process
    global _loop_running
    with _loop_lock:
        if _loop_running:
            return
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        libvirt.virEventRegisterDefaultImpl()

        def run() -> None:
            while True:
                libvirt.virEventRunDefaultImpl()

        threading.Thread(target=run, name="libvirt-events", daemon=True).start()
        _loop_running = True


def answers(uri: str) -> bool:
    """Whether a libvirt can be reached at `uri` now."""
    _run_event_loop()
    try:
        libvirt.open(uri).close()
    except libvirt.libvirtError:
        return False
    return True


class Connection:
    """A lasting connection to the libvirt at `uri`.

    Keep-alive messages go out every `keepalive_interval` seconds; after `keepalive_count` without an
    answer the
    connection counts as broken. It is then opened anew until that succeeds, and a RESYNC event follows.
    """

    def __init__(self, uri: str, *, keepalive_interval: int = 5, keepalive_count: int = 3) -> None:
        self.uri = uri
        self.events = Events()
        self._keepalive = (keepalive_interval, keepalive_count)
        self._connection: libvirt.virConnect | None = None
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._lost = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="libvirt-connection", daemon=True)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        _run_event_loop()
        self.events.start()
        self._lost.set()
        self._keeper.start()

    def stop(self) -> None:
        """Close the connection and stop delivering events."""
        self._ending.set()
        self._lost.set()
        self._keeper.join()
        self.events.stop()

    def handle(self, wait: float = 0.0) -> libvirt.virConnect:
        """The open connection; waits up to `wait` seconds for one. Raises `Unavailable`."""
        with self._changed:
            if (
                self._changed.wait_for(lambda: self._connection is not None, wait)
                and self._connection is not None
            ):
                return self._connection
        raise Unavailable(f"libvirt at {self.uri} does not answer: is libvirtd running?")

    def _keep(self) -> None:
        pause = 0.1
        while True:
            self._lost.wait()
            self._replace(None)
            if self._ending.is_set():
                return
            try:
                connection = self._open()
            except libvirt.libvirtError as error:
                log.warning("libvirt at %s does not answer: %s", self.uri, error.get_error_message())
                self._ending.wait(pause)
                pause = min(pause * 2, 5.0)
                continue
            pause = 0.1
            self._replace(connection)
            log.info("connected to libvirt at %s", self.uri)
            self.events.publish(Event(Kind.RESYNC))

    def _replace(self, connection: libvirt.virConnect | None) -> None:
        with self._changed:
            old, self._connection = self._connection, connection
            self._changed.notify_all()
        if old is not None:
            try:
                old.unregisterCloseCallback()
                old.close()
            except libvirt.libvirtError as error:
                log.debug("closing the broken connection: %s", error)

    def _open(self) -> libvirt.virConnect:
        connection = libvirt.open(self.uri)
        self._lost.clear()
        connection.registerCloseCallback(lambda *_: self._lost.set(), None)
        if not connection.getType().startswith("TEST"):
            connection.setKeepAlive(*self._keepalive)
        publish = self.events.publish

        def lifecycle(_c: Any, domain: libvirt.virDomain, event: int, _detail: int, _opaque: Any) -> None:
            if event in _LIFECYCLE:
                publish(Event(_LIFECYCLE[event], domain.UUIDString()))

        def reboot(_c: Any, domain: libvirt.virDomain, _opaque: Any) -> None:
            publish(Event(Kind.REBOOT, domain.UUIDString()))

        def removed(_c: Any, domain: libvirt.virDomain, alias: str, _opaque: Any) -> None:
            publish(Event(Kind.DEVICE_REMOVED, domain.UUIDString(), alias))

        def not_removed(_c: Any, domain: libvirt.virDomain, alias: str, _opaque: Any) -> None:
            publish(Event(Kind.DEVICE_REMOVAL_FAILED, domain.UUIDString(), alias))

        for identifier, callback in (
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle),
            (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, reboot),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, removed),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, not_removed),
        ):
            connection.domainEventRegisterAny(None, identifier, callback, None)
        return connection
