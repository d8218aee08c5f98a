"""The consoles over SSH: the server's socket, its thread, and what clients are told of it."""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from api.methods.call import Services
from api.operations.console import Consoles
from api.wire import host_key

if TYPE_CHECKING:
    from api.wire.console_door import Door

log = logging.getLogger(__name__)

_STOP = 5.0  # seconds that viewers have to take the last words
_THREADS = 80  # one may wait for each guest, and some ask the records


class ConsoleServer:
    """Serves the consoles at listening sockets, in a thread of its own.

    The SSH library, a tenth of the service's memory, is loaded when the first client comes.
    """

    def __init__(
        self, listening: Sequence[socket.socket], key: Path, services: Services, consoles: Consoles
    ) -> None:
        self._listening = listening
        self._key = key
        self._services = services
        self._consoles = consoles
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)

    def start(self) -> None:
        """Begin to serve; makes the host key at the first start."""
        host_key.ensure(self._key)
        for one in self._listening:
            one.setblocking(False)
        self._thread.start()

    def stop(self) -> None:
        """Send the viewers away and end; may be repeated."""
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(2 * _STOP)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="console"))
        try:
            self._loop.run_until_complete(self._serve())
        except Exception:
            log.exception("no consoles any more")
        finally:
            for one in self._listening:
                one.close()
            # not waited for: a thread may be held up by a guest that takes no input
            self._loop.close()

    async def _serve(self) -> None:
        knocked = asyncio.Event()
        for one in self._listening:
            self._loop.add_reader(one, knocked.set)
        await _first(knocked, self._stopping)
        for one in self._listening:
            self._loop.remove_reader(one)
        if self._stopping.is_set():
            return
        from api.wire.console_door import Door

        door = Door(self._services, self._consoles)
        servers = [await door.open(one, self._key) for one in self._listening]
        await self._stopping.wait()
        for server in servers:
            server.close()
        await self._send_away(door)

    async def _send_away(self, door: "Door") -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP):
                await door.close()


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
