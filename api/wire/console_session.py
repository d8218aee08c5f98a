"""What passes between one client of a console and the guest."""

import asyncio
import contextlib
import logging
from typing import Any

import asyncssh

from api.methods import console
from api.methods.call import Services
from api.methods.console import Viewed
from api.operations.console import CHUNK, Consoles, End, NotRunning, TooManyViewers, Viewer
from hypervisor.domain.console_log import TooSlow
from hypervisor.errors import HypervisorError

SLOW_SECONDS = 15.0
"""Time for a client to take what it was sent."""

LEAVE = b"\x1d"  # Ctrl-]

_PARTING = 5.0  # seconds that a client has to close the connection after its session
_READ = 4096

log = logging.getLogger(__name__)


class Session:
    """One client's look at the console of `vm`; `flowing` is set while the connection takes bytes."""

    def __init__(
        self,
        conn: asyncssh.SSHServerConnection,
        flowing: asyncio.Event,
        vm: Viewed,
        services: Services,
        consoles: Consoles,
    ) -> None:
        self._conn = conn
        self._flowing = flowing
        self._vm = vm
        self._services = services
        self._consoles = consoles
        self._name = f"vm#{vm.vm_id} ({vm.hostname})"
        self._stderr: asyncssh.SSHWriter[bytes] | None = None

    async def run(
        self,
        stdin: "asyncssh.SSHReader[bytes]",
        stdout: "asyncssh.SSHWriter[bytes]",
        stderr: "asyncssh.SSHWriter[bytes]",
    ) -> None:
        """Show the console, or say why not, and end the session."""
        self._stderr = stderr
        channel = stdout.channel
        channel.set_write_buffer_limits(CHUNK)
        status = 1
        try:
            if channel.get_command() is not None or channel.get_subsystem() is not None:
                self._tell("This is a console and runs no commands: connect without one.")
            else:
                log.info("console of vm#%d: %s looks", self._vm.vm_id, _peer(self._conn))
                status = await self._show(stdin, stdout)
        except (asyncssh.Error, ConnectionError):
            return  # it hung up
        except (TimeoutError, TooSlow):
            log.warning(
                "console of vm#%d: %s takes too long to read, hung up", self._vm.vm_id, _peer(self._conn)
            )
            self._conn.abort()
            return
        except Exception:
            log.exception("console of vm#%d", self._vm.vm_id)
            self._tell("The console failed: the service's log says why.")
        await self._leave(channel, status)

    async def _leave(self, channel: Any, status: int) -> None:
        """End the session; a client that has nothing else to do closes the connection then."""
        with contextlib.suppress(OSError):
            channel.exit(status)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PARTING):
                await self._conn.wait_closed()
        self._conn.close()

    async def _show(self, stdin: "asyncssh.SSHReader[bytes]", stdout: "asyncssh.SSHWriter[bytes]") -> int:
        """Show the console until it or the client ends; returns the exit status."""
        try:
            async with self._consoles.viewing(self._vm.uuid, self._vm.datacenter_id) as viewer:
                # whoever switches it off from now on ends this view too
                if not await asyncio.to_thread(console.is_open, self._services, self._vm.vm_id):
                    return self._switched_off()
                self._tell(f"Console of {self._name}. Ctrl-] leaves it.")
                await self._pass(viewer, stdin, stdout)
                match viewer.end:
                    case End.HALTED:
                        self._tell(f"\r\n{self._name} has halted.")
                    case End.SWITCHED_OFF:
                        return self._switched_off()
                    case End.BROKEN:
                        self._tell(
                            f"\r\nThe console of {self._name} broke, or somebody took it: connect again."
                        )
                        return 1
                return 0
        except NotRunning:
            self._tell(f"{self._name} is halted: start it with hosting.vm.start, then connect again.")
        except TooManyViewers:
            self._tell(f"Too many look at the console of {self._name} already: one has to leave first.")
        except (HypervisorError, FileNotFoundError, PermissionError) as error:
            log.warning("console of vm#%d: %s", self._vm.vm_id, error)
            self._tell(f"The console of {self._name} cannot be opened: the service's log says why.")
        return 1

    def _switched_off(self) -> int:
        self._tell(f"\r\nThe console of {self._name} is switched off: hosting.vm.update switches it on.")
        return 1

    async def _pass(
        self, viewer: Viewer, stdin: "asyncssh.SSHReader[bytes]", stdout: "asyncssh.SSHWriter[bytes]"
    ) -> None:
        """Pass bytes both ways until the view ends or the client leaves."""
        ways = [
            asyncio.ensure_future(self._output(viewer, stdout)),
            asyncio.ensure_future(_input(viewer, stdin)),
            # neither of them notices while it waits for the guest
            asyncio.ensure_future(self._conn.wait_closed()),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            ended = await asyncio.gather(*ways, return_exceptions=True)
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome

    async def _output(self, viewer: Viewer, stdout: "asyncssh.SSHWriter[bytes]") -> None:
        async for data in viewer.output():
            async with asyncio.timeout(SLOW_SECONDS):
                stdout.write(data)
                await stdout.drain()
                await self._flowing.wait()

    async def end(self, words: str) -> None:
        """Say `words` and end the session."""
        if self._stderr is not None:
            self._tell(f"\r\n{words}")
            await self._leave(self._stderr.channel, 1)

    def _tell(self, words: str) -> None:
        if self._stderr is not None:
            self._stderr.write(f"{words}\r\n".encode())


async def _input(viewer: Viewer, stdin: "asyncssh.SSHReader[bytes]") -> None:
    """Hand on what is typed, until the client leaves."""
    while True:
        try:
            data = await stdin.read(_READ)
        except (asyncssh.TerminalSizeChanged, asyncssh.BreakReceived, asyncssh.SignalReceived):
            continue  # a serial line knows none of them
        typed, left, _ = data.partition(LEAVE)
        if typed:
            await viewer.type(typed)
        if left or not data:
            return


def _peer(conn: asyncssh.SSHServerConnection) -> str:
    peer = conn.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else "somebody"
