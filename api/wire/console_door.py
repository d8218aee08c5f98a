"""The consoles' door: who is let in, and how many."""

import asyncio
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
from api.operations.console import Consoles
from api.wire.console_session import Session

CONNECTIONS = 64
"""Clients at a time."""

STRANGERS = 16
"""Those among them that have not logged in yet."""

ATTEMPTS = 6
"""Wrong keys and passwords after which a connection ends."""

LOGIN_SECONDS = 30
"""Time to log in, and then to ask for the console."""

_ALIVE = 30  # seconds of silence after which a client is asked whether it is there

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
        self._session: Session | None = None
        self._asked = "", ""
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
            log.warning("consoles: too many connections, %s has to wait", conn.get_extra_info("peername"))
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
        self._record()
        asyncio.get_running_loop().call_later(LOGIN_SECONDS, self._expect_session)

    def _expect_session(self) -> None:
        if self._session is None:
            self._conn.close()

    def public_key_auth_supported(self) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, address: str, key: asyncssh.SSHKey) -> bool:
        shown = key.get_fingerprint()
        return await self._judge(
            address, shown, partial(console.with_key, self._services, address, key.public_data)
        )

    async def validate_password(self, address: str, password: str) -> bool:
        return await self._judge(
            address, "password", partial(console.with_api_key, self._services, address, password)
        )

    async def _judge(self, address: str, offered: str, judge: Callable[[], Viewed | None]) -> bool:
        self._viewed = None
        self._asked = address, offered
        self._viewed = await asyncio.to_thread(judge)
        if self._viewed is not None:
            return True  # so far: the key itself has still to sign
        self._record()
        self._failures += 1
        if self._failures >= ATTEMPTS:
            self._conn.disconnect(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many attempts to log in")
        return False

    def _record(self) -> None:
        peer = self._conn.get_extra_info("peername")
        remote = str(peer[0]) if isinstance(peer, tuple) and peer else "unix"
        self._services.audit.console(remote, *self._asked, self._viewed)

    # what it may do

    def session_requested(self) -> Any:
        if self._session is not None or self._viewed is None:
            return False
        self._session = Session(self._conn, self._flowing, self._viewed, self._services, self._consoles)
        return self._session.run

    async def hang_up(self, words: str) -> None:
        """Say `words` and close the connection."""
        if self._session is not None:
            await self._session.end(words)
        self._conn.close()
        await self._conn.wait_closed()
