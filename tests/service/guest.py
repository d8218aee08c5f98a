"""What happens inside a guest: commands by ssh, the log of its serial console."""

import asyncio
import contextlib
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from tests.service.waiting import STEP, until

# a boot under emulation on a busy machine
BOOT = 90.0


@dataclass(frozen=True)
class Identity:
    """An ssh key pair."""

    file: Path

    @property
    def public(self) -> str:
        """The public key as a line."""
        return self.file.with_suffix(".pub").read_text().strip()


def make_identity(folder: Path, name: str = "identity") -> Identity:
    """A new key pair in `folder`."""
    file = folder / name
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(file)], check=True, timeout=30
    )
    return Identity(file)


class Guest:
    """The guest that answers ssh at `address`, for the owner of `identity`."""

    def __init__(self, address: str, identity: Identity, user: str = "root") -> None:
        self.address = address
        self.identity = identity
        self.user = user

    def ready(self, seconds: float = BOOT) -> "Guest":
        """This guest, once its ssh server answers and lets us in."""
        deadline = time.monotonic() + seconds
        until(lambda: banner(self.address), seconds, f"an ssh server answers at {self.address}")
        left = max(deadline - time.monotonic(), 1)
        until(
            lambda: self.attempt("true").returncode == 0,
            left,
            lambda: f"{self.user}@{self.address} logs in: {self.attempt('true').stderr}",
        )
        return self

    def attempt(self, command: str, seconds: float = 30) -> "subprocess.CompletedProcess[str]":
        """Run a shell command, whatever comes of it; ssh's own failures have status 255."""
        return subprocess.run(
            [
                "ssh", "-F", "/dev/null", "-i", str(self.identity.file),
                "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=5",
                "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                # a guest that is reset in the middle of a session says nothing any more
                "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "-o", "LogLevel=ERROR",
                "-l", self.user, self.address, command,
            ],
            check=False, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def run(self, command: str, seconds: float = 30) -> str:
        """What a shell command writes, without the last end of line; fails when the command does."""
        done = self.attempt(command, seconds)
        assert done.returncode == 0, (
            f"{command!r} in {self.address} ended with {done.returncode}: {done.stderr}"
        )
        return done.stdout.removesuffix("\n")

    def appears(self, path: str, seconds: float = 60) -> str:
        """The content of the guest's file `path`, once it is there and not empty."""
        return until(
            lambda: self.attempt(f"[ -s {path} ] && cat {path}").stdout, seconds, f"{path} in {self.address}"
        )

    def boot_id(self) -> str:
        """Another one after each boot."""
        return self.run("cat /proc/sys/kernel/random/boot_id")

    def rebooted(self, before: str, seconds: float = BOOT) -> str:
        """The boot's id, once it is not `before`; waits for the guest to come up."""

        def other() -> str:
            answer = self.attempt("cat /proc/sys/kernel/random/boot_id")
            return answer.stdout.strip() if answer.returncode == 0 and answer.stdout.strip() != before else ""

        return until(other, seconds, f"{self.address} comes up again")

    def with_password(self, password: str, user: str, command: str = "id -un") -> str:
        """What `command` writes for `user`, who logs in with a password alone."""

        async def login() -> str:
            async with asyncssh.connect(
                self.address, username=user, password=password, known_hosts=None, client_keys=None,
                agent_path=None, config=None, preferred_auth="password", connect_timeout=20,
                # dropbear hangs up on somebody who offers more than 50 of them
                server_host_key_algs=["ssh-ed25519"],
            ) as connection:  # fmt: skip
                done = await connection.run(command, check=True, timeout=30)
                return str(done.stdout).removesuffix("\n")

        return asyncio.run(login())


def banner(address: str) -> bytes:
    """The first bytes of the ssh server at `address`; empty when it does not answer at once."""
    with contextlib.suppress(OSError), socket.create_connection((address, 22), timeout=2) as connection:
        return connection.recv(64)
    return b""


class Console:
    """The log of a guest's serial console."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def text(self) -> str:
        """All that was written so far."""
        return self.file.read_text(errors="replace") if self.file.exists() else ""

    def count(self, words: str) -> int:
        """How often it says `words`."""
        return self.text().count(words)

    def says(self, words: str, times: int = 1, seconds: float = BOOT) -> float:
        """The time (`time.monotonic`) at which it has said `words` that many times."""
        until(
            lambda: self.count(words) >= times,
            seconds,
            lambda: f"{words!r} {times} times on the console, which ends {self.text()[-400:]!r}",
        )
        return time.monotonic() - STEP
