"""What a service manager sees of a real server: it hears what is told, and passes sockets."""

import os
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from api.wire.listen import Inherited, Tcp, Unix, open_listener, place
from api.wire.self_signed import make
from api.wire.systemd import Manager

if TYPE_CHECKING:
    from tests.wire.conftest import Start

WATCHDOG = 1.5  # seconds
SLOW = 16  # as many clients as threads


class Hearing:
    """The socket that a service manager listens at (sd_notify(3))."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)

    def next(self, seconds: float = 15) -> str:
        """What is said next; fails when that is nothing."""
        self._socket.settimeout(seconds)
        return self._socket.recv(4096).decode()

    def until(self, said: str, seconds: float = 15) -> list[str]:
        """All that is said, up to `said`."""
        heard = [self.next(seconds)]
        while heard[-1] != said:
            heard.append(self.next(seconds))
        return heard

    def silent(self, seconds: float) -> bool:
        """Whether nothing is said for so long."""
        try:
            self.next(seconds)
        except TimeoutError:
            return True
        return False

    def drain(self) -> None:
        """Forget what was said."""
        while not self.silent(0.001):
            pass

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Hearing]:
    """A service manager that hears."""
    hearing = Hearing(tmp_path)
    yield hearing
    hearing.close()


def told(manager: Hearing, watchdog: float | None = None) -> dict[str, str]:
    """The environment that it gives to a service."""
    period = {} if watchdog is None else {"WATCHDOG_USEC": str(int(watchdog * 1_000_000))}
    return {"NOTIFY_SOCKET": manager.address, **period}


def test_it_is_ready_when_it_answers_and_tells_of_its_end(start: "Start", manager: Hearing) -> None:
    service = start(environment=told(manager))
    # gunicorn would say so before there is anybody to answer
    assert manager.next() == "READY=1"
    with service.proxy() as server:
        assert server.echo(1) == [1]
    assert manager.silent(0.5)
    service.process.terminate()
    assert manager.next() == "STOPPING=1"
    assert service.process.wait(10) == 0
    assert manager.silent(0.1)


def test_one_that_cannot_start_never_says_that_it_is_ready(start: "Start", manager: Hearing) -> None:
    service = start("fail", environment=told(manager))
    assert service.process.wait(10) == 3
    assert manager.next() == "STOPPING=1"
    assert manager.silent(0.1)


def test_ready_with_tls_and_at_a_unix_socket(start: "Start", manager: Hearing, tmp_path: Path) -> None:
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    make(*files, ["localhost"], timedelta(days=1))
    start(tls=files, environment=told(manager))
    assert manager.next() == "READY=1"
    start(address=f"unix:{tmp_path / 'api'}", environment=told(manager))
    assert manager.next() == "READY=1"


def test_the_watchdog_hears_a_busy_service_but_not_a_stuck_one(start: "Start", manager: Hearing) -> None:
    service = start(environment=told(manager, WATCHDOG))
    assert manager.until("WATCHDOG=1")[0] == "READY=1"
    # clients that hold all threads must not have the service ended
    slow = [service.connect() for _ in range(SLOW)]
    for connection in slow:
        connection.sendall(b"POST /xmlrpc/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n<")
    manager.drain()
    for _ in range(3):
        assert manager.next(WATCHDOG) == "WATCHDOG=1"
    for connection in slow:
        connection.close()
    with ThreadPoolExecutor(1) as pool, service.proxy() as server:
        stuck = pool.submit(server.stuck, 2 * WATCHDOG)
        time.sleep(WATCHDOG / 2)  # what was on its way
        manager.drain()
        assert manager.silent(WATCHDOG)
        stuck.result()
        assert manager.next(WATCHDOG) == "WATCHDOG=1"


def test_the_watchdog_does_not_hear_a_stopped_process(start: "Start", manager: Hearing) -> None:
    service = start(environment=told(manager, WATCHDOG))
    manager.until("WATCHDOG=1")
    (worker,) = service.lines("ready")
    os.kill(worker, signal.SIGSTOP)
    manager.drain()
    assert manager.silent(WATCHDOG)
    os.kill(worker, signal.SIGCONT)
    manager.until("WATCHDOG=1")


def test_a_replaced_worker_goes_on_telling(start: "Start", manager: Hearing) -> None:
    service = start(environment=told(manager, WATCHDOG))
    manager.until("WATCHDOG=1")
    os.kill(service.lines("ready")[0], signal.SIGKILL)
    assert "READY=1" in manager.until("READY=1")
    manager.until("WATCHDOG=1")


def test_sockets_of_systemd_come_first(tmp_path: Path) -> None:
    """As socket activation does: the socket is descriptor 3, LISTEN_PID the process that serves."""
    program = (
        "import os, socket, sys; opened = socket.create_server(('127.0.0.1', 0));"
        "port = opened.getsockname()[1];"
        "os.dup2(opened.fileno(), 3); os.set_inheritable(3, True); print(port, flush=True);"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='api');"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    script = str(Path(__file__).with_name("service.py"))
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", program, script, "unix:/nowhere/socket", "serve", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{port}/xmlrpc/") as proxy:
            assert proxy.echo(1) == [1]
        server.terminate()
        assert server.wait(10) == 0


def test_what_the_environment_tells_is_taken_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(os.getpid())
    for name, value in (
        ("LISTEN_PID", here), ("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", "api:console:api"),
        ("NOTIFY_SOCKET", "@x"), ("WATCHDOG_PID", here), ("WATCHDOG_USEC", "2500000"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    found = Manager.found()
    assert found.sockets("console") == [Inherited(4)]
    assert found.others("console") == [Inherited(3), Inherited(5)]
    assert (found.listens, found.watchdog) == (True, 2.5)
    again = Manager.found()
    assert (again.others(), again.listens, again.watchdog) == ([], False, None)


def test_what_is_another_processes_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("LISTEN_PID", "1"), ("LISTEN_FDS", "1"), ("WATCHDOG_PID", "1"), ("WATCHDOG_USEC", "1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    found = Manager.found()
    assert (found.others(), found.watchdog) == ([], None)


def test_an_abstract_socket_hears_too(manager: Hearing) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
        abstract.bind(f"\0hypervisor-test-{os.getpid()}")
        Manager(f"@hypervisor-test-{os.getpid()}").tell("READY=1", "STATUS=x")
        assert abstract.recv(100) == b"READY=1\nSTATUS=x"
    # one that is gone is no reason to fail
    Manager(f"@hypervisor-test-{os.getpid()}").tell("READY=1")
    assert manager.silent(0.01)


def test_places_of_inherited_sockets() -> None:
    with open_listener("127.0.0.1:0") as opened:
        name = opened.getsockname()
        assert place(Inherited(opened.fileno())) == f"127.0.0.1:{name[1]}"
    assert place(Tcp("::1", 80)) == "[::1]:80"
    assert place(Unix("/run/x")) == "unix:/run/x"
