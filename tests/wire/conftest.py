"""A real server in a process of its own."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from api.wire.server import open_listener

ROOT = Path(__file__).parents[2]


class Service:
    """A server that was started for a test, on a socket that it inherits."""

    def __init__(
        self,
        directory: Path,
        mode: str = "serve",
        address: str | None = None,
        tls: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        inherited: list[int] = []
        if address is None:
            with open_listener("127.0.0.1:0") as listening:
                self.port = int(listening.getsockname()[1])
                inherited = [os.dup(listening.fileno())]
            address = f"fd://{inherited[0]}"
        program = str(Path(__file__).with_name("service.py"))
        command = [sys.executable, program, address, mode, str(directory), *map(str, tls)]
        self.errors = directory / "stderr"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
                stderr=errors,
                pass_fds=inherited,
            )
        for descriptor in inherited:
            os.close(descriptor)

    def lines(self, name: str) -> list[int]:
        """The process ids that the server wrote into the file `name`."""
        path = self.directory / name
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def wait_ready(self) -> "Service":
        """This service, when it answers."""
        self.wait_for(lambda: bool(self.lines("ready")))
        return self

    def proxy(self, **options: Any) -> xmlrpc.client.ServerProxy:
        """Python's own client of this server."""
        url = f"http://127.0.0.1:{self.port}/xmlrpc/"
        return xmlrpc.client.ServerProxy(url, allow_none=True, use_builtin_types=True, **options)

    def http(self) -> http.client.HTTPConnection:
        """A plain HTTP connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def log(self) -> str:
        """What the server wrote on stderr so far."""
        return self.errors.read_text()

    @staticmethod
    def wait_for(true: Callable[[], bool], seconds: float = 15) -> float:
        """The time until `true()` was, in seconds; fail when that takes longer than `seconds`."""
        started = time.monotonic()
        while not true():
            assert time.monotonic() < started + seconds, "waited in vain"
            time.sleep(0.01)
        return time.monotonic() - started

    @staticmethod
    def alive(process: int) -> bool:
        """Whether `process` runs: a zombie does not."""
        try:
            status = Path(f"/proc/{process}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return status.rpartition(")")[2].split()[0] != "Z"

    def end(self) -> None:
        """End what is left of it."""
        workers = self.lines("started")
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


Start = Callable[..., Service]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start services, each one with a directory of its own; they end with the test."""
    services: list[Service] = []

    def begin(
        mode: str = "serve",
        address: str | None = None,
        tls: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Service:
        directory = tmp_path / str(len(services))
        directory.mkdir()
        services.append(Service(directory, mode, address, tls, environment))
        return services[-1]

    yield begin
    for service in services:
        service.end()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the tests of a module that leave it as it was."""
    running = Service(tmp_path_factory.mktemp("service"))
    try:
        yield running.wait_ready()
    finally:
        running.end()
