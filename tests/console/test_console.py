"""The console of a real guest over SSH."""

import asyncio
import itertools
import os
import select
import subprocess
import time
from contextlib import AsyncExitStack
from pathlib import Path

import asyncssh
import pytest

from api.operations.console import VIEWERS
from api.wire.console_session import SLOW_SECONDS
from tests.conftest import Reach
from tests.console.kit import LEAVE, Machine
from tests.service.host import Host
from tests.service.waiting import until

pytestmark = pytest.mark.guest


def test_a_command_is_typed_and_answered(running: Machine, reach: Reach) -> None:
    guest = reach(running.vm)

    async def look() -> None:
        async with running.terminal() as terminal:
            await terminal.log_in()
            terminal.type(b"uname -a\r")
            await terminal.sees(guest.run("uname -a").encode())
            await terminal.log_out()
            terminal.type(LEAVE)
            assert await terminal.ended() == 0
            assert terminal.told == f"Console of vm#{running.vm['id']} (seen). Ctrl-] leaves it.\r\n".encode()

    asyncio.run(look())


def test_the_clients_own_line_works_in_a_terminal(running: Machine) -> None:
    """As gandi.cli does it: a shell's line with the VM's address and its console_url."""
    url = running.client.vm(running.vm["id"])["console_url"]
    assert url == f"localhost -p {running.service.console_port}"
    line = f"ssh {running.address}@{url}"
    # a home of its own: neither this user's keys nor what it knows of other servers
    home = (
        "mkdir -p ~/.ssh && mount -t tmpfs none ~/.ssh"
        f" && install -m 600 {running.identity.file} ~/.ssh/id_ed25519 && {line}"
    )
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", "unshare", "--mount", "sh", "-c", home],
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = bytearray()

    def sees(words: bytes, after: int) -> bool:
        while select.select([ours], [], [], 0)[0]:
            try:
                shown.extend(os.read(ours, 65536))
            except OSError:  # the last one at the terminal has left it
                break
        return words in shown[after:]

    def answers(typed: bytes, words: bytes) -> None:
        after = len(shown)
        os.write(ours, typed)
        until(lambda: sees(words, after), 30, lambda: f"{words!r} in {bytes(shown[-500:])!r}")

    try:
        for answer, question in (
            (b"", b"(yes/no"),
            (b"yes\n", b"Ctrl-] leaves it."),
            (b"\r", b"login: "),
            (b"nobody\r", b"Password: "),
            (LEAVE, b"closed."),
        ):
            answers(answer, question)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_two_see_the_same_and_both_type(running: Machine) -> None:
    async def look() -> None:
        async with running.terminal() as one, running.terminal() as other:
            await one.log_in()
            await other.sees(b"# ")
            for number, (typist, reader) in enumerate([(one, other), (other, one), (one, other)]):
                reader.type(b"")
                typist.type(b"echo it is $((40 + %d))\r" % number)
                for each in (typist, reader):
                    await each.sees(b"it is %d\r\n" % (40 + number))
            # long lines of output, while a third one comes
            one.type(b"for i in $(seq 2000); do echo line $i of many; done; echo al''l\r")
            async with running.terminal() as late:
                for each in (one, other, late):
                    await each.sees(b"all\r\n", 60)
                await one.log_out()
                for each in (other, late):
                    await each.sees(b"login: ")
                whole = running.log.file.read_bytes()
                for each in (one, other, late):
                    size = len(each.shown)
                    assert size > 30000
                    assert bytes(each.shown) == whole[:size]

    asyncio.run(look())


def test_the_log_is_shown_from_power_on(running: Machine) -> None:
    async def look(first: bytes) -> bytes:
        async with running.terminal() as terminal:
            await terminal.sees(b"login: ")
            assert terminal.shown.index(first) < terminal.shown.index(b"login: ")
            terminal.type(LEAVE)
            await terminal.ended()
            return bytes(terminal.shown)

    before = asyncio.run(look(b"SYSLINUX"))
    running.do("stop")
    assert "tiny: poweroff" in running.log.text()
    running.do("start")
    running.log.says("login: ")
    after = asyncio.run(look(b"SYSLINUX"))
    assert before.count(b"tiny: up") == after.count(b"tiny: up") == 1
    assert b"tiny: poweroff" not in after


def test_a_guest_that_halts(running: Machine) -> None:
    async def look() -> None:
        async with running.terminal() as terminal:
            await terminal.log_in()
            terminal.type(b"poweroff\r")
            assert await terminal.ended(60) == 0
            await terminal.is_told(b"(seen) has halted.")
            assert b"reboot: Power down" in terminal.shown
            assert bytes(terminal.shown) == running.log.file.read_bytes(), "not to the last byte"
        running.client.in_state(running.vm["id"], "halted")
        async with running.terminal() as terminal:
            assert await terminal.ended() == 1
            await terminal.is_told(b"is halted: start it with hosting.vm.start")
            assert not terminal.shown

    asyncio.run(look())


def test_switched_off_it_sends_viewers_away(running: Machine) -> None:
    async def look() -> None:
        async with running.terminal() as one, running.terminal() as other:
            await one.sees(b"login: ")
            await other.sees(b"login: ")
            await asyncio.to_thread(running.switch, on=False)
            for each in (one, other):
                assert await each.ended() == 1
                await each.is_told(b"is switched off")
        with pytest.raises(asyncssh.PermissionDenied):
            await running.knock()

    asyncio.run(look())


def test_so_many_may_look(running: Machine) -> None:
    async def look() -> None:
        async with AsyncExitStack() as stack:
            there = [await stack.enter_async_context(running.terminal()) for _ in range(VIEWERS)]
            for each in there:
                await each.is_told(b"Ctrl-]")
            async with running.terminal() as one_more:
                assert await one_more.ended() == 1
                await one_more.is_told(b"Too many look at the console")
            there[0].type(LEAVE)
            assert await there[0].ended() == 0
            async with running.terminal() as next_one:
                await next_one.sees(b"login: ")

    asyncio.run(look())


def test_one_who_does_not_read_is_dropped(running: Machine) -> None:
    async def look() -> None:
        async with running.connect() as connection, running.terminal() as reader:
            await reader.log_in()
            reader.type(b"for i in $(seq 4000); do echo line $i of many; done; echo al''l\r")
            await reader.sees(b"all\r\n", 60)
            # takes 4 KiB and no more
            slow = await connection.create_process(term_type="vt100", encoding=None, window=4096)
            begun = time.monotonic()
            for number in itertools.count():
                reader.type(b"echo still $((%d + 0)) here\r" % number)
                await reader.sees(b"still %d here\r\n" % number, 5)
                if time.monotonic() - begun > SLOW_SECONDS / 2:
                    break
            async with asyncio.timeout(SLOW_SECONDS):
                await connection.wait_closed()
            assert SLOW_SECONDS - 1 < time.monotonic() - begun < SLOW_SECONDS + 5
            assert slow.exit_status is None
            await reader.log_out()

    asyncio.run(look())


def test_input_that_the_guest_does_not_take_holds_up_nobody(running: Machine) -> None:
    domain = running.service.domain(running.vm["id"])

    async def look() -> None:
        async with running.terminal() as terminal:
            await terminal.sees(b"login: ")
            domain.suspend()
            try:
                terminal.type(b"x" * 1_000_000)
                # libvirtd reads no further from that connection; the API's is another one
                for _ in range(20):
                    begun = time.monotonic()
                    await asyncio.to_thread(running.client.vm, running.vm["id"])
                    await asyncio.to_thread(running.client.in_state, running.vm["id"], "paused")
                    assert time.monotonic() - begun < 5
            finally:
                domain.resume()

    asyncio.run(look())
    running.client.in_state(running.vm["id"], "running")
    running.do("stop")


def test_nothing_but_the_console_is_to_be_had(running: Machine) -> None:
    async def look() -> None:
        async with running.connect() as connection:
            done = await connection.run("id", check=False)
            assert (done.exit_status, done.stdout) == (1, "")
            assert done.stderr == "This is a console and runs no commands: connect without one.\r\n"
        async with running.connect() as connection:
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection("127.0.0.1", running.service.port)
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
            with pytest.raises((asyncssh.Error, OSError)):
                await connection.start_sftp_client()

    asyncio.run(look())


def test_libvirtd_that_is_killed_ends_a_view(running: Machine, host: Host) -> None:
    async def look() -> None:
        async with running.terminal() as terminal:
            await terminal.sees(b"login: ")
            await asyncio.to_thread(host.kill_libvirtd)
            assert await terminal.ended() == 1
            await terminal.is_told(b"connect again")

        # who connects again waits for libvirt
        async with running.terminal() as terminal:
            terminal.type(b"\r")
            await terminal.sees(b"login: ")

    asyncio.run(look())


def test_the_host_key_is_the_owners_and_stays(running: Machine) -> None:
    key: Path = running.service.state / "console_host_key"
    assert key.stat().st_mode & 0o777 == 0o600

    async def offered() -> bytes:
        found = await asyncssh.get_server_host_key("127.0.0.1", running.service.console_port, config=None)
        assert found is not None
        return found.public_data

    assert asyncio.run(offered()) == asyncssh.read_private_key(str(key)).public_data
