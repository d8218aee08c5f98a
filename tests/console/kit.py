"""People at consoles."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from tests.service.client import Client, Struct, address
from tests.service.guest import BOOT, Console, Identity
from tests.service.process import Service

PASSWORD = "the root password"
LEAVE = b"\x1d"


@dataclass(frozen=True)
class Machine:
    """A virtual machine and the service that its console is had from."""

    service: Service
    client: Client
    identity: Identity
    vm: Struct

    @property
    def address(self) -> str:
        """The user name of its console."""
        return address(self.vm)

    @property
    def log(self) -> Console:
        """The log of its console."""
        return self.service.console(self.vm["id"])

    @asynccontextmanager
    async def connect(
        self, user: str | None = None, **options: Any
    ) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """A connection as the VM's owner, unless `options` say otherwise."""
        given = {"client_keys": [str(self.identity.file)], "password": None} | options
        async with asyncssh.connect(
            "127.0.0.1", self.service.console_port, username=user or self.address, known_hosts=None,
            agent_path=None, config=None, connect_timeout=20, **given,
        ) as connection:  # fmt: skip
            yield connection

    async def knock(self, user: str | None = None, **options: Any) -> None:
        """Log in, and leave."""
        async with self.connect(user, **options):
            pass

    @asynccontextmanager
    async def terminal(self, **options: Any) -> "AsyncIterator[Terminal]":
        """Somebody who looks at the console."""
        async with self.connect(**options) as connection:
            process = await connection.create_process(term_type="vt100", encoding=None)
            terminal = Terminal(process, self.log.file)
            try:
                yield terminal
            finally:
                for one in terminal.reading:
                    one.cancel()

    def switch(self, on: bool) -> None:
        """Let the owner look at the console, or not."""
        self.client.done(self.client.call("hosting.vm.update", self.vm["id"], {"console": on}))

    def do(self, method: str) -> None:
        """Call a method of hosting.vm and wait for its end."""
        self.client.done(self.client.call(f"hosting.vm.{method}", self.vm["id"]))


@dataclass
class Terminal:
    """A terminal at a console: what was shown on it, what the service said on stderr."""

    process: "asyncssh.SSHClientProcess[bytes]"
    log: Path
    shown: bytearray = field(default_factory=bytearray)
    told: bytearray = field(default_factory=bytearray)
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)
    _mark: int = 0
    _over: bool = False

    def __post_init__(self) -> None:
        streams = ((self.process.stdout, self.shown), (self.process.stderr, self.told))
        self.reading = [asyncio.create_task(self._read(stream, into)) for stream, into in streams]

    async def _read(self, stream: "asyncssh.SSHReader[bytes]", into: bytearray) -> None:
        while data := await stream.read(65536):
            into += data
            async with self._more:
                self._more.notify_all()
        async with self._more:
            self._over = True
            self._more.notify_all()

    def type(self, text: bytes) -> None:
        """Press keys; only what is shown from now on counts for `sees`."""
        self._mark = len(self.shown)
        self.process.stdin.write(text)

    async def sees(self, words: bytes, seconds: float = BOOT) -> None:
        """Wait until `words` are shown."""
        try:
            async with asyncio.timeout(seconds), self._more:
                await self._more.wait_for(lambda: words in self.shown[self._mark :] or self._over)
        except TimeoutError:
            pass
        shown = bytes(self.shown[self._mark :])
        assert words in shown, f"no {words!r} in {shown[-400:]!r}, told {bytes(self.told)!r}"

    async def is_told(self, words: bytes, seconds: float = 30) -> None:
        """Wait until the service has said `words`."""
        try:
            async with asyncio.timeout(seconds), self._more:
                await self._more.wait_for(lambda: words in self.told)
        except TimeoutError:
            raise AssertionError(f"no {words!r} in {bytes(self.told)!r}") from None

    async def log_in(self) -> None:
        """Log in as root."""
        # what was said before today is no answer
        size = self.log.stat().st_size
        async with asyncio.timeout(30), self._more:
            await self._more.wait_for(lambda: len(self.shown) >= size)
        self.type(b"\r")
        await self.sees(b"login: ")
        self.type(b"root\r")
        await self.sees(b"Password: ")
        self.type(PASSWORD.encode() + b"\r")
        await self.sees(b"# ")

    async def log_out(self) -> None:
        """Leave the shell."""
        self.type(b"exit\r")
        await self.sees(b"login: ")

    async def ended(self, seconds: float = 30) -> int | None:
        """The exit status, once the console has ended."""
        async with asyncio.timeout(seconds):
            await self.process.wait_closed()
            await asyncio.gather(*self.reading)
        return self.process.exit_status
