"""The consoles that are being looked at: one stream to each guest, however many look.

A viewer is shown the console's log from power-on and then what is added to it: the log has every byte once,
and who takes them slowly only reads on later. The stream carries what viewers type, and tells of the guest's
end.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path

from api.operations.hosts import Hosts
from hypervisor.connection import Connection
from hypervisor.domain import power
from hypervisor.domain.console import Console
from hypervisor.domain.console_log import LogReader, LogWatch
from hypervisor.errors import HypervisorError

VIEWERS = 8
"""How many may look at one console at a time."""

CHUNK = 32768
"""Bytes that are handed to a viewer at once."""

# seconds in which virtlogd must have written down what a guest said last, and libvirt have noticed its end
_LAST_WORDS = 3.0
_RETURN = 10.0  # seconds that somebody who wants to look waits for libvirt


class End(StrEnum):
    """Why a view ended."""

    HALTED = "halted"
    SWITCHED_OFF = "switched off"
    BROKEN = "broken"  # libvirt's connection ended, or somebody took the console by force


class NotRunning(Exception):
    """The guest is halted."""


class TooManyViewers(Exception):
    """As many as may look at this console do so."""


class Viewer:
    """One who looks at a console."""

    def __init__(self, shared: "_Shared", reader: LogReader) -> None:
        self._shared = shared
        self._reader = reader
        self.grown = asyncio.Event()

    @property
    def end(self) -> End | None:
        """Why there is nothing more to come, once that is so."""
        return self._shared.end

    async def output(self) -> AsyncIterator[bytes]:
        """What the guest wrote since power-on, and what it writes, until the view ends.

        Raises `TooSlow` for a viewer that took so long that the log was rotated away before it.
        """
        while self.end is not End.SWITCHED_OFF:
            self.grown.clear()
            if data := self._reader.read(CHUNK):
                yield data
            elif self._shared.complete:
                return
            else:
                await self.grown.wait()

    async def type(self, data: bytes) -> None:
        """Hand `data` to the guest; waits while it takes nothing. Does nothing once the view has ended."""
        with contextlib.suppress(HypervisorError):
            await self._shared.type(data)


class Consoles:
    """Opens consoles for viewers; everything but `switch_off` belongs to one event loop."""

    def __init__(self, hosts: Hosts, logs: Path) -> None:
        self._hosts = hosts
        self._logs = logs
        self._shared: dict[str, _Shared] = {}

    @asynccontextmanager
    async def viewing(self, uuid: str, datacenter_id: int) -> AsyncIterator[Viewer]:
        """Look at the console of the domain `uuid` on the datacenter's libvirt.

        Raises `NotRunning`, `TooManyViewers`, `HypervisorError` when libvirt does not let us, `OSError` when
        there is no log.
        """
        shared = self._shared.get(uuid)
        if shared is None:
            connection = self._hosts.at(self._hosts.uri(datacenter_id))
            shared = self._shared[uuid] = _Shared(connection, uuid, self._logs / f"{uuid}.log", self._forget)
        with shared.place():
            try:
                await shared.open()
                # after the stream: the log is this power-on's
                reader = LogReader(shared.file)
                viewer = Viewer(shared, reader)
                shared.viewers.add(viewer)
                try:
                    yield viewer
                finally:
                    shared.viewers.discard(viewer)
                    reader.close()
            finally:
                if shared.taken == 1:
                    self._forget(shared)
                    shared.close()

    def switch_off(self, uuid: str) -> None:
        """End all views of the console; from any thread."""
        shared = self._shared.get(uuid)
        if shared is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the views with it
            shared.loop.call_soon_threadsafe(shared.finish, End.SWITCHED_OFF)

    def _forget(self, shared: "_Shared") -> None:
        if self._shared.get(shared.uuid) is shared:
            del self._shared[shared.uuid]


class _Shared:
    """The one stream to a guest, and who looks at it."""

    def __init__(
        self, connection: Connection, uuid: str, file: Path, forget: "Callable[[_Shared], None]"
    ) -> None:
        self.uuid = uuid
        self.file = file
        self.loop = asyncio.get_running_loop()
        self.viewers: set[Viewer] = set()
        self.taken = 0
        self.end: End | None = None
        self.complete = False
        self._connection = connection
        self._forget = forget
        self._opening = asyncio.Lock()
        self._typing = asyncio.Lock()
        self._console: Console | None = None
        self._watch: LogWatch | None = None

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Take one of the places; raises `TooManyViewers`."""
        if self.taken >= VIEWERS:
            raise TooManyViewers
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    async def open(self) -> None:
        """Open the stream, unless it is; raises as `Consoles.viewing` says."""
        async with self._opening:
            if self._console is None:
                self._console = await asyncio.to_thread(self._open)
                self._watch = LogWatch(self.file)
                self.loop.add_reader(self._watch, self._look)

    def _open(self) -> Console:
        # libvirt may be on its way back
        if self._halted(wait=_RETURN):
            raise NotRunning
        return Console(self._connection.uri, self.uuid, self._ended)

    def close(self) -> None:
        """Let the stream go; does not wait for libvirt."""
        if self._watch is not None:
            self.loop.remove_reader(self._watch)
            self._watch.close()
        if self._console is not None:
            self.loop.run_in_executor(None, self._console.close)

    async def type(self, data: bytes) -> None:
        """Hand `data` to the guest; raises `ConsoleEnded`."""
        # one thread at most waits for a guest that does not read
        async with self._typing:
            if self._console is not None:
                await asyncio.to_thread(self._console.write, data)

    def finish(self, end: End) -> None:
        """End all views: at once when the console was switched off, else with the log's last bytes."""
        self._forget(self)
        self.end = self.end or end
        if end is not End.HALTED or (self._watch is not None and self._watch.closed):
            self._complete()
        else:
            self.loop.call_later(_LAST_WORDS, self._complete)

    def _complete(self) -> None:
        self.complete = True
        self._wake()

    def _look(self) -> None:
        if self._watch is not None and self._watch.grown():
            if self.end is not None and self._watch.closed:
                self.complete = True
            self._wake()

    def _wake(self) -> None:
        for viewer in self.viewers:
            viewer.grown.set()

    def _ended(self) -> None:
        # called by libvirt's event thread, which must not wait; the loop may be gone at the service's end
        with contextlib.suppress(RuntimeError):
            asyncio.run_coroutine_threadsafe(self._find_out(), self.loop)

    async def _find_out(self) -> None:
        """Why the stream ended."""
        end = End.BROKEN
        with contextlib.suppress(HypervisorError), self._connection.events.watching(self.uuid) as watch:
            deadline = self.loop.time() + _LAST_WORDS
            # the stream ends some moments before libvirt calls the domain off
            while not (halted := await asyncio.to_thread(self._halted)) and self.loop.time() < deadline:
                await watch.next(deadline - self.loop.time())
            end = End.HALTED if halted else End.BROKEN
        self.finish(end)

    def _halted(self, wait: float = 0.0) -> bool:
        return not power.state(self._connection.handle(wait), self.uuid).powered
