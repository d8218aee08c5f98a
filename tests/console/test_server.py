"""The consoles' server before anybody sees a guest: its bounds, its key, its way to stop."""

import asyncio
import dataclasses
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from api.methods.audit import Audit
from api.operations.console import Consoles
from api.operations.hosts import Hosts
from api.store.database import Store
from api.store.journal import Journal
from api.store.models import Datacenter
from api.store.schema import upgrade
from api.wire import console_door
from api.wire.console import ConsoleServer
from api.wire.console_door import ATTEMPTS, STRANGERS
from api.wire.console_socket import console_url, open_console
from tests.methods.world import ALICE, UNKNOWN, World, begin
from tests.service.waiting import until

ADDRESS = "192.0.2.2"


@dataclass
class Server:
    """A running server with one VM, and its owner's key."""

    port: int
    key: asyncssh.SSHKey
    host_key: Path
    audit: Path
    stop: Callable[[], None]

    def connect(self, *keys: asyncssh.SSHKey, **options: Any) -> Any:
        """A connection that offers `keys` in this order."""
        given = {"client_keys": list(keys) or None, "password": None, "username": ADDRESS} | options
        return asyncssh.connect(
            "127.0.0.1", self.port, known_hosts=None, agent_path=None, config=None, **given
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of a VM that libvirt does not have."""
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    upgrade(store)
    begin(store)
    world = World(store)
    journal = Journal(tmp_path / "audit.log")
    world.services = dataclasses.replace(world.services, audit=Audit(journal))
    key = asyncssh.generate_private_key("ssh-ed25519")
    vm = world.vm(console=True, seed={"ssh_keys": [key.export_public_key().decode()]})
    world.iface(ALICE, (ADDRESS,), state="used", vm_id=vm.id, num=0)
    hosts = Hosts("test:///default", [world.get(Datacenter, 1)])
    hosts.start()
    listening, port = open_console("127.0.0.1:0")
    made = ConsoleServer(listening, tmp_path / "key", world.services, Consoles(hosts, tmp_path))
    made.start()
    yield Server(port, key, tmp_path / "key", tmp_path / "audit.log", made.stop)
    made.stop()
    hosts.stop()
    store.close()
    journal.close()


def others(count: int) -> list[asyncssh.SSHKey]:
    """Keys of nobody."""
    return [asyncssh.generate_private_key("ssh-ed25519") for _ in range(count)]


def test_attempts_are_bounded(server: Server) -> None:
    async def look() -> None:
        async with server.connect(*others(ATTEMPTS - 1), server.key):
            pass
        # the right one comes too late
        with pytest.raises(asyncssh.DisconnectError, match="Too many attempts"):
            await server.connect(*others(ATTEMPTS), server.key)

    asyncio.run(look())


def test_logins_and_refusals_are_recorded_without_what_was_typed(server: Server) -> None:
    typed = "typed in place of an address"
    (wrong,) = others(1)

    async def look() -> None:
        async with server.connect(wrong, server.key):
            pass
        async with server.connect(password=ALICE):
            pass
        for options in ({"password": "not the key"}, {"password": UNKNOWN, "username": typed}):
            with pytest.raises(asyncssh.PermissionDenied):
                await server.connect(**options)

    asyncio.run(look())
    lines = [json.loads(line) for line in server.audit.read_text().splitlines()]
    who = ("from", "account", "key", "offered", "address", "ids", "result")
    assert [tuple(line[name] for name in who) for line in lines] == [
        ("127.0.0.1", None, None, wrong.get_fingerprint(), ADDRESS, {}, "refused"),
        ("127.0.0.1", "ALICE-GANDI", None, server.key.get_fingerprint(), ADDRESS, {"vm": [1]}, "ok"),
        ("127.0.0.1", "ALICE-GANDI", {"id": 1, "label": ""}, "password", ADDRESS, {"vm": [1]}, "ok"),
        ("127.0.0.1", None, None, "password", ADDRESS, {}, "refused"),
        ("127.0.0.1", None, None, "password", None, {}, "refused"),
    ]
    assert not {ALICE, UNKNOWN, "not the key", typed} & set(server.audit.read_text().split('"'))


def test_strangers_are_bounded(server: Server) -> None:
    there = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(STRANGERS)]
    try:
        for one in there:
            assert one.recv(4) == b"SSH-"
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as one_more:
            assert not received(one_more)
    finally:
        for one in there:
            one.close()

    async def look() -> None:
        async with server.connect(server.key):
            pass

    until(lambda: works(look), 10, "who left makes room")


def received(connection: socket.socket) -> bytes:
    """What comes from a connection that is being closed."""
    try:
        return connection.recv(4)
    except ConnectionResetError:
        return b""


def works(look: Callable[[], Any]) -> bool:
    """Whether it does."""
    try:
        asyncio.run(look())
    except (asyncssh.Error, OSError):
        return False
    return True


def test_one_who_does_not_log_in_is_hung_up_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_door, "LOGIN_SECONDS", 1)
    begun = time.monotonic()
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as idle:
        while received(idle):
            pass
    assert 0.5 < time.monotonic() - begun < 5


def test_one_who_asks_for_nothing_is_hung_up_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_door, "LOGIN_SECONDS", 1)

    async def look() -> None:
        connection = await server.connect(server.key)
        async with asyncio.timeout(5):
            await connection.wait_closed()

    asyncio.run(look())


def test_the_host_key_is_its_owners_and_the_same_for_all(server: Server) -> None:
    assert server.host_key.stat().st_mode & 0o777 == 0o600
    kept = asyncssh.read_private_key(str(server.host_key))

    async def offered() -> asyncssh.SSHKey | None:
        return await asyncssh.get_server_host_key("127.0.0.1", server.port, config=None)

    found = asyncio.run(offered())
    assert found is not None
    assert found.get_algorithm() == "ssh-ed25519"
    assert found.public_data == kept.public_data


@pytest.mark.parametrize("came", [False, True], ids=["nobody came", "somebody is there"])
def test_it_stops_at_once(server: Server, came: bool) -> None:
    async def look() -> None:
        connection = await server.connect(server.key) if came else None
        begun = time.monotonic()
        await asyncio.to_thread(server.stop)
        assert time.monotonic() - begun < 3
        if connection is not None:
            await connection.wait_closed()

    asyncio.run(look())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


@pytest.mark.parametrize(
    ("port", "url"), [(22, "console.example.net"), (2222, "console.example.net -p 2222")]
)
def test_the_url_follows_the_address_in_a_shell(port: int, url: str) -> None:
    assert console_url("console.example.net", port) == url


def test_a_port_that_is_taken_and_what_is_no_address(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert open_console(f"127.0.0.1:{port}") == ([], port)
    assert "set console_listen" in caplog.text
    with pytest.raises(ValueError, match="is not an address"):
        open_console("127.0.0.1:0 somewhere")
