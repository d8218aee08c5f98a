"""One client of the consoles: who is let in, and what passes between the client and the guest."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh

from api.methods import console
from api.methods.call import Services
from api.methods.console import Viewed
from api.operations.console import CHUNK, Consoles, End, NotRunning, TooManyViewers, Viewer
from hypervisor.domain.console_log import TooSlow
from hypervisor.errors import HypervisorError

CONNECTIONS = 64
"""Clients at a time."""

STRANGERS = 16
"""Those among them that have not logged in yet."""

ATTEMPTS = 6
"""Wrong keys and passwords after which a connection ends."""

LOGIN_SECONDS = 30
"""Time to log in, and then to ask for the console."""

SLOW_SECONDS = 15.0
"""Time for a client to take what it was sent."""

LEAVE = b"\x1d"  # Ctrl-]

_ALIVE = 30  # seconds of silence after which a client is asked whether it is there
_PARTING = 2.0  # seconds that a client has to close the connection after its session
_READ = 4096

log = logging.getLogger(__name__)
# its notes hold what people typed, a password in place of an address among it
logging.getLogger("asyncssh").setLevel(logging.WARNING)


class Door:
    """Lets clients in, and knows who is there."""

    def __init__(self, services: Services, consoles: Consoles) -> None:
        self._services = services
        self._consoles = consoles
        self._clients: set[_Client] = set()

    async def open(self, listening: socket.socket, key: Path) -> asyncssh.SSHAcceptor:
        """Serve at `listening`, as the owner of the host key `key`."""
        return await asyncssh.listen(
            sock=listening, server_host_keys=[str(key)], server_factory=self._client, encoding=None,
            line_editor=False, login_timeout=LOGIN_SECONDS, keepalive_interval=_ALIVE,
            kbdint_auth=False, host_based_auth=False, gss_host=None, x11_forwarding=False,
            agent_forwarding=False, allow_scp=False, compression_algs=None, config=None,
            server_version="console",
        )  # fmt: skip

    async def close(self) -> None:
        """Hang up on everybody."""
        left = [one.hang_up("The service is stopping: connect again later.") for one in self._clients]
        await asyncio.gather(*left, return_exceptions=True)

    def _client(self) -> "_Client":
        return _Client(self._services, self._consoles, self._clients)


class _Client(asyncssh.SSHServer):
    """A client's connection; it may log in, and look at one console once."""

    def __init__(self, services: Services, consoles: Consoles, others: "set[_Client]") -> None:
        self._services = services
        self._consoles = consoles
        self._others = others
        self._failures = 0
        self._viewed: Viewed | None = None
        self._seen = False
        self._stderr: asyncssh.SSHWriter[bytes] | None = None
        self.logged_in = False
        self._flowing = asyncio.Event()
        self._flowing.set()

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        # asyncssh lets its transport's buffer grow as far as a client's window, which may be 4 GiB
        conn.pause_writing = self._flowing.clear  # type: ignore[method-assign]
        conn.resume_writing = self._flowing.set  # type: ignore[method-assign]
        strangers = sum(not one.logged_in for one in self._others)
        if len(self._others) >= CONNECTIONS or strangers >= STRANGERS:
            log.warning("consoles: too many connections, %s has to wait", _peer(conn))
            conn.abort()
            return
        self._others.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._others.discard(self)

    # who it is: whatever is wrong, the answer is the same

    def begin_auth(self, _address: str) -> bool:
        self._viewed = None
        return True

    def auth_completed(self) -> None:
        self.logged_in = True
        asyncio.get_running_loop().call_later(LOGIN_SECONDS, self._expect_session)

    def _expect_session(self) -> None:
        if not self._seen:
            self._conn.close()

    def public_key_auth_supported(self) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, address: str, key: asyncssh.SSHKey) -> bool:
        return await self._judge(partial(console.with_key, self._services, address, key.public_data))

    async def validate_password(self, address: str, password: str) -> bool:
        return await self._judge(partial(console.with_api_key, self._services, address, password))

    async def _judge(self, judge: Callable[[], Viewed | None]) -> bool:
        self._viewed = None
        self._viewed = await asyncio.to_thread(judge)
        if self._viewed is not None:
            return True
        self._failures += 1
        if self._failures >= ATTEMPTS:
            self._conn.disconnect(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many attempts to log in")
        return False

    # what it may do

    def session_requested(self) -> Any:
        if self._seen or self._viewed is None:
            return False
        self._seen = True
        return partial(self._session, self._viewed)

    async def _session(
        self,
        vm: Viewed,
        stdin: "asyncssh.SSHReader[bytes]",
        stdout: "asyncssh.SSHWriter[bytes]",
        stderr: "asyncssh.SSHWriter[bytes]",
    ) -> None:
        self._stderr = stderr
        channel = stdout.channel
        channel.set_write_buffer_limits(CHUNK)
        status = 1
        try:
            if channel.get_command() is not None or channel.get_subsystem() is not None:
                self._tell("This is a console and runs no commands: connect without one.")
            else:
                log.info("console of vm#%d: %s looks", vm.vm_id, _peer(self._conn))
                status = await self._show(vm, stdin, stdout)
        except (asyncssh.Error, ConnectionError):
            return  # it hung up
        except (TimeoutError, TooSlow):
            log.warning("console of vm#%d: %s takes too long to read, hung up", vm.vm_id, _peer(self._conn))
            self._conn.abort()
            return
        except Exception:
            log.exception("console of vm#%d", vm.vm_id)
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

    async def _show(
        self, vm: Viewed, stdin: "asyncssh.SSHReader[bytes]", stdout: "asyncssh.SSHWriter[bytes]"
    ) -> int:
        """Show the console until it or the client ends; returns the exit status."""
        name = f"vm#{vm.vm_id} ({vm.hostname})"
        try:
            async with self._consoles.viewing(vm.uuid) as viewer:
                # whoever switches it off from now on ends this view too
                if not await asyncio.to_thread(console.is_open, self._services, vm.vm_id):
                    return self._switched_off(name)
                self._tell(f"Console of {name}. Ctrl-] leaves it.")
                await self._pass(viewer, stdin, stdout)
                match viewer.end:
                    case End.HALTED:
                        self._tell(f"\r\n{name} has halted.")
                    case End.SWITCHED_OFF:
                        return self._switched_off(name)
                    case End.BROKEN:
                        self._tell(f"\r\nThe console of {name} broke, or somebody took it: connect again.")
                        return 1
                return 0
        except NotRunning:
            self._tell(f"{name} is halted: start it with hosting.vm.start, then connect again.")
        except TooManyViewers:
            self._tell(f"Too many look at the console of {name} already: one has to leave first.")
        except (HypervisorError, OSError) as error:
            log.warning("console of vm#%d: %s", vm.vm_id, error)
            self._tell(f"The console of {name} cannot be opened: the service's log says why.")
        return 1

    def _switched_off(self, name: str) -> int:
        self._tell(f"\r\nThe console of {name} is switched off: hosting.vm.update switches it on.")
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

    async def hang_up(self, words: str) -> None:
        """Say `words` and close the connection."""
        if self._stderr is not None:
            self._tell(f"\r\n{words}")
            await self._leave(self._stderr.channel, 1)
        self._conn.close()
        await self._conn.wait_closed()

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
