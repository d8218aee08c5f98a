"""A lasting connection to a libvirt: one that hears its events, and beside it one for each thread that asks.

Threads could share one. But then libvirt's client lets one of them wait for the answers to all: with 9.0 one
was seen to miss that others had asked, whose calls went out with the next keep-alive message, up to five
seconds later, for as long as that connection lasted. And libvirtd works on no more than five calls of one
connection at a time (`max_client_requests`), be they as long as they like.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import libvirt

from hypervisor.events import Event, Events, Kind
from hypervisor.libvirt_errors import Unavailable, explained

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

# between attempts to connect, in seconds: doubled after each
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_LOOK_AGAIN = 60.0  # seconds between two looks at everything that events should have told
_STOP_PATIENCE = 5.0

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


def answers(uri: str, patience: float = 10.0) -> bool:
    """Whether a libvirt can be reached at `uri` now; one that says nothing for `patience` seconds cannot."""
    _run_event_loop()
    try:
        _open_within(uri, patience).close()
    except Unavailable:
        return False
    return True


def _open_within(uri: str, patience: float) -> libvirt.virConnect:
    opened: queue.SimpleQueue[libvirt.virConnect | None] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            opened.put(libvirt.open(uri))
        except libvirt.libvirtError:
            opened.put(None)

    # opening has no time limit of its own: a libvirtd that is stopped accepts and never answers
    threading.Thread(target=attempt, name="libvirt-opening", daemon=True).start()
    with contextlib.suppress(queue.Empty):
        connection = opened.get(timeout=patience)
        if connection is not None:
            return connection
    raise _unavailable(uri)


def _unavailable(uri: str) -> Unavailable:
    return Unavailable(f"libvirt at {uri} does not answer: is libvirtd running?")


def open_apart(uri: str) -> libvirt.virConnect:
    """A connection of its own to the libvirt at `uri`, for calls that may never return; blocks.

    It is closed by its opener, or when that drops it. Raises `LibvirtError` or `Unavailable`.
    """
    _run_event_loop()
    with explained(f"connection to libvirt at {uri}"):
        return libvirt.open(uri)


class Connection:
    """A lasting connection to the libvirt at `uri`.

    Keep-alive messages go out every `keepalive_interval` seconds; after `keepalive_count` without an answer
    the connection counts as broken, and calls that wait for an answer fail. It is then opened anew until that
    succeeds, and a RESYNC event follows. What happens is published in `events`, which its giver starts and
    stops; without, the connection has some of its own.
    """

    def __init__(
        self,
        uri: str,
        events: Events | None = None,
        *,
        keepalive_interval: int = 5,
        keepalive_count: int = 3,
    ) -> None:
        self.uri = uri
        self.events = Events() if events is None else events
        self._shares_events = events is not None
        self._lost_at = time.monotonic()
        self._keepalive = (keepalive_interval, keepalive_count)
        self._connection: libvirt.virConnect | None = None
        # counts the connections that were opened, one after the other
        self._number = 0
        # of each thread: its connection, and the number at which it was opened
        self._own = threading.local()
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._wake = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="libvirt-connection", daemon=True)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        _run_event_loop()
        if not self._shares_events:
            self.events.start()
        self._keeper.start()

    def stop(self) -> None:
        """Let the connection go; may be repeated, and called before `start`."""
        self._ending.set()
        self._wake.set()
        if self._keeper.ident is not None:
            # a libvirtd that hangs keeps the keeper in the middle of opening: nothing can interrupt that
            self._keeper.join(_STOP_PATIENCE)
            if self._keeper.is_alive():
                log.warning("libvirt at %s hangs; left it so", self.uri)
        self._replace(None)
        if not self._shares_events:
            self.events.stop()

    def handle(self, wait: float = 0.0) -> libvirt.virConnect:
        """An open connection for the calling thread alone; waits up to `wait` seconds for libvirt. Raises
        `Unavailable`."""
        deadline = time.monotonic() + wait
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._usable() is not None or self._ending.is_set(), deadline - time.monotonic()
                )
                if self._usable() is None:
                    raise _unavailable(self.uri)
                number = self._number
            try:
                return self._of_thread(number)
            except Unavailable:
                # libvirtd is gone, and the keeper has not heard of it yet
                if time.monotonic() > deadline:
                    raise
                self._ending.wait(_FIRST_PAUSE)

    def _of_thread(self, number: int) -> libvirt.virConnect:
        """The calling thread's connection, anew when the common one with this `number` is a newer one."""
        own: libvirt.virConnect | None = getattr(self._own, "connection", None)
        if own is None or self._own.number != number or not own.isAlive():
            interval, count = self._keepalive
            own = _open_within(self.uri, interval * count)
            with explained(f"connection to libvirt at {self.uri}"):
                _keep_alive(own, self._keepalive)
            self._own.connection, self._own.number = own, number
        return own

    @property
    def silence(self) -> float:
        """For how many seconds there has been no connection; 0 while there is one."""
        with self._changed:
            return 0.0 if self._connection is not None else time.monotonic() - self._lost_at

    def _usable(self) -> libvirt.virConnect | None:
        # a connection breaks some moments before the keeper hears of it; asking costs no message
        if self._connection is not None and self._connection.isAlive():
            return self._connection
        return None

    def _keep(self) -> None:
        pause = _FIRST_PAUSE
        while not self._ending.is_set():
            try:
                self._connect_and_hold()
                pause = _FIRST_PAUSE
            except libvirt.libvirtError as error:
                if pause == _FIRST_PAUSE:
                    log.warning(
                        "libvirt at %s does not answer, trying on: %s", self.uri, error.get_error_message()
                    )
                self._ending.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _connect_and_hold(self) -> None:
        lost = threading.Event()
        opened = _Opened(self.uri, self._keepalive, self._publish, lambda: self._lose(lost))
        log.info("connected to libvirt at %s", self.uri)
        self._replace(opened.handle)
        self._publish(Event(Kind.RESYNC))
        while not (lost.is_set() or self._ending.is_set()):
            if not self._wake.wait(_LOOK_AGAIN):
                # libvirt sends no event for a domain that dies while a new libvirtd looks it over
                self._publish(Event(Kind.RESYNC))
            self._wake.clear()
        self._replace(None)
        opened.release()
        if not self._ending.is_set():
            log.warning("the connection to libvirt at %s broke: connecting anew", self.uri)

    def _publish(self, event: Event) -> None:
        self.events.publish(replace(event, origin=self.uri))

    def _lose(self, lost: threading.Event) -> None:
        lost.set()
        self._wake.set()

    def _replace(self, connection: libvirt.virConnect | None) -> None:
        with self._changed:
            if self._connection is not None:
                self._lost_at = time.monotonic()
            self._connection = connection
            self._number += 1
            self._changed.notify_all()


class _Opened:
    """One open connection and the callbacks registered with it.

    It is never closed while a thread may be in a call on it: the last one to drop the handle closes it. For
    that the callbacks must be given back, because libvirt's hold on them is a hold on the handle.
    """

    def __init__(
        self,
        uri: str,
        keepalive: tuple[int, int],
        publish: Callable[[Event], None],
        lost: Callable[[], None],
    ) -> None:
        self.handle = libvirt.open(uri)
        self._registered: list[int] = []
        try:
            self.handle.registerCloseCallback(lambda *_: lost(), None)
            _keep_alive(self.handle, keepalive)
            for identifier, callback in _callbacks(publish):
                self._registered.append(self.handle.domainEventRegisterAny(None, identifier, callback, None))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the callbacks back; errors do not matter, libvirt forgets its side first."""
        for number in self._registered:
            with contextlib.suppress(libvirt.libvirtError):
                self.handle.domainEventDeregisterAny(number)
        with contextlib.suppress(libvirt.libvirtError):
            self.handle.unregisterCloseCallback()


def _keep_alive(connection: libvirt.virConnect, keepalive: tuple[int, int]) -> None:
    # the test driver has no other end
    if not connection.getType().startswith("TEST"):
        connection.setKeepAlive(*keepalive)


def _callbacks(publish: Callable[[Event], None]) -> list[tuple[int, Callable[..., None]]]:
    def lifecycle(_c: Any, domain: libvirt.virDomain, event: int, _detail: int, _opaque: Any) -> None:
        if event in _LIFECYCLE:
            publish(Event(_LIFECYCLE[event], domain.UUIDString()))

    def reboot(_c: Any, domain: libvirt.virDomain, _opaque: Any) -> None:
        publish(Event(Kind.REBOOT, domain.UUIDString()))

    def agent(_c: Any, domain: libvirt.virDomain, state: int, _reason: int, _opaque: Any) -> None:
        if state == libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED:
            publish(Event(Kind.AGENT_CONNECTED, domain.UUIDString()))

    def removed(_c: Any, domain: libvirt.virDomain, alias: str, _opaque: Any) -> None:
        publish(Event(Kind.DEVICE_REMOVED, domain.UUIDString(), alias))

    def not_removed(_c: Any, domain: libvirt.virDomain, alias: str, _opaque: Any) -> None:
        publish(Event(Kind.DEVICE_REMOVAL_FAILED, domain.UUIDString(), alias))

    def job(_c: Any, domain: libvirt.virDomain, disk: str, _kind: int, _status: int, _opaque: Any) -> None:
        publish(Event(Kind.BLOCK_JOB, domain.UUIDString(), disk))

    return [
        (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle),
        (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, reboot),
        (libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, agent),
        (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, removed),
        (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, not_removed),
        (libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, job),
    ]
