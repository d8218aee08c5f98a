"""Who is not let in: all of them are told the same."""

import asyncio
import contextlib
import socket
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from api.store.keys import digest
from tests.conftest import NewService
from tests.console.kit import Machine
from tests.service.client import Client, address
from tests.service.guest import make_identity
from tests.service.process import Service

pytestmark = pytest.mark.guest


class _Seen(asyncssh.SSHClient):
    """Notes what a client can tell of a refusal."""

    def __init__(self) -> None:
        self.notes: list[object] = []

    def auth_banner_received(self, msg: str, lang: str) -> None:
        self.notes.append((msg, lang))


async def refusal(machine: Machine, user: str, **options: Any) -> tuple[object, ...]:
    """What a client sees that is refused."""
    seen = _Seen()
    with pytest.raises(asyncssh.PermissionDenied) as caught:
        await machine.knock(user, client_factory=lambda: seen, **options)
    # asyncssh itself puts the name that it logged in with into the reason
    return caught.value.code, caught.value.reason.replace(user, "USER"), *seen.notes


def test_the_right_ones_are_let_in(running: Machine) -> None:
    async def look() -> None:
        for address_ in (address(running.vm), address(running.vm, 6), address(running.vm, 6).upper()):
            await running.knock(address_)
            await running.knock(address_, client_keys=None, password=running.client.key)

    asyncio.run(look())


def test_whatever_is_wrong_the_answer_is_the_same(running: Machine, stranger: Client, tmp_path: Path) -> None:
    before = running.service.log.count(running.client.key)
    wrong = str(make_identity(tmp_path).file)
    revoked = running.service.cli("apikey", "create").stdout.strip()
    kept = make_identity(tmp_path, "kept")
    stored = running.client.call("hosting.ssh.create", {"name": "kept", "value": kept.public})
    theirs = make_identity(tmp_path, "theirs")
    stranger.call("hosting.ssh.create", {"name": "theirs", "value": theirs.public})

    asyncio.run(running.knock(client_keys=[str(kept.file)]))
    asyncio.run(running.knock(client_keys=None, password=revoked))
    running.client.call("hosting.ssh.delete", stored["id"])
    revoke(running.service, revoked)

    here, keys = running.address, {"client_keys": [str(running.identity.file)]}
    with_keys = {
        "a wrong key": (here, {"client_keys": [wrong]}),
        "a key that was deleted": (here, {"client_keys": [str(kept.file)]}),
        "another account's key": (here, {"client_keys": [str(theirs.file)]}),
        "an unknown address": ("10.255.255.250", keys),
        "a name": ("root", keys),
    }
    with_passwords = {
        "a wrong password": (here, "wrong"),
        "an unknown API key": (here, "0" * 24),
        "a revoked API key": (here, revoked),
        "another account's API key": (here, stranger.key),
        "an unknown address": ("10.255.255.250", running.client.key),
    }

    async def look() -> None:
        seen = {name: await refusal(running, user, **given) for name, (user, given) in with_keys.items()}
        assert len(set(seen.values())) == 1, seen
        answers = {
            name: await refusal(running, user, client_keys=None, password=password)
            for name, (user, password) in with_passwords.items()
        }
        await asyncio.to_thread(running.switch, on=False)
        answers["a closed console"] = await refusal(
            running, here, client_keys=None, password=running.client.key
        )
        closed = await refusal(running, here, **keys)
        await asyncio.to_thread(running.switch, on=True)
        assert len(set(answers.values())) == 1, answers
        assert {closed} == set(seen.values())
        assert "Permission denied" in str(closed)

    asyncio.run(look())
    # the start prints the first key, and nothing any other, nor that one again
    after = running.service.log
    assert after.count(running.client.key) == before
    assert revoked not in after
    assert stranger.key not in after


def revoke(service: Service, key: str) -> None:
    """Revoke an API key."""
    with contextlib.closing(sqlite3.connect(service.state / "store.db")) as database:
        (number,) = database.execute("SELECT id FROM api_key WHERE digest = ?", (digest(key),)).fetchone()
    done = service.cli("apikey", "revoke", str(number))
    assert done.returncode == 0, done.stderr


def test_the_ssh_program_is_told_the_same(running: Machine, tmp_path: Path) -> None:
    wrong = make_identity(tmp_path).file

    def told(user: str, key: Path) -> str:
        return subprocess.run(
            ["ssh", "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i", str(key),
             "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
             "-p", str(running.service.console_port), f"{user}@localhost"],
            check=False, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL,
        ).stderr.replace(user, "USER")  # fmt: skip

    assert told(running.address, wrong) == told("10.255.255.250", running.identity.file)
    assert "Permission denied" in told(running.address, wrong)


def test_a_port_that_is_taken_does_not_keep_the_service_from_starting(new_service: NewService) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service: Service = new_service(HYPERVISOR_CONSOLE_LISTEN=f"127.0.0.1:{port}")
        client = service.start().client()
        assert client.call("hosting.vm.list") == []
        assert f"no consoles: cannot listen on 127.0.0.1:{port}" in service.log
        assert "console_listen" in service.log
        assert service.terminate() == 0
