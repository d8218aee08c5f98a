"""What happens to domains, as records, and how to wait for it.

libvirt's callbacks only put a record on a queue (work there would stall its keep-alive); one thread hands the
records on to whoever subscribed, in order.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """What happened."""

    DEFINED = "defined"
    UNDEFINED = "undefined"
    STARTED = "started"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    SHUTDOWN = "shutdown"  # the guest has halted, its process still runs
    STOPPED = "stopped"
    CRASHED = "crashed"
    REBOOT = "reboot"  # the machine was reset, by whomever
    AGENT_CONNECTED = "agent-connected"  # the guest's agent has started: the guest is up
    DEVICE_REMOVED = "device-removed"
    DEVICE_REMOVAL_FAILED = "device-removal-failed"
    BLOCK_JOB = "block-job"  # the job of a disk is complete, ended or failed: its XML says which
    RESYNC = "resync"  # the connection is new: events may have been lost, so read the state again


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to the domain `uuid`; an empty `uuid` means to any of them.

    `device` is an alias; of a block job, the disk's target (``vda``). `origin` is the URI of the libvirt that
    told it.
    """

    kind: Kind
    uuid: str = ""
    device: str = ""
    origin: str = field(default="", compare=False)


Subscriber = Callable[[Event], None]


class Events:
    """Passes events on from libvirt's thread to subscribers, in a thread of its own."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._subscribers: list[Subscriber] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._deliver, name="libvirt-delivery", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """Deliver what is queued and end; may be repeated, and called before `start`."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def publish(self, event: Event) -> None:
        """Queue `event`; never blocks."""
        self._queue.put(event)

    @contextmanager
    def subscribed(self, subscriber: Subscriber) -> Iterator[None]:
        """Call `subscriber` with each event, from the delivery thread, while the block runs."""
        with self._lock:
            self._subscribers = [*self._subscribers, subscriber]
        try:
            yield
        finally:
            with self._lock:
                self._subscribers = [one for one in self._subscribers if one is not subscriber]

    @contextmanager
    def watching(self, uuid: str) -> Iterator["Watch"]:
        """A `Watch` of the domain `uuid` for a coroutine; it holds every event since the block began."""
        watch = Watch(uuid, asyncio.get_running_loop())
        with self.subscribed(watch.receive):
            yield watch

    def _deliver(self) -> None:
        while (event := self._queue.get()) is not None:
            for subscriber in self._subscribers:
                try:
                    subscriber(event)
                except Exception:
                    log.exception("a subscriber failed on %s", event)


class Watch:
    """The events of one domain, for a coroutine that waits for them without holding a thread."""

    def __init__(self, uuid: str, loop: asyncio.AbstractEventLoop) -> None:
        self._uuid = uuid
        self._loop = loop
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def receive(self, event: Event) -> None:
        """Take an event from the delivery thread."""
        if event.uuid in ("", self._uuid):
            with suppress(RuntimeError):  # the loop may have been closed meanwhile: then nobody waits
                self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next(self, patience: float) -> Event | None:
        """The next event, or None when `patience` seconds pass without one."""
        try:
            async with asyncio.timeout(patience):
                return await self._events.get()
        except TimeoutError:
            return None
