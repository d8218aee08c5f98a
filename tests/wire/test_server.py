"""A real server, driven by Python's own XML-RPC client and by hand."""

import http.client
import os
import signal
import socket
import time
import xmlrpc.client
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from api.wire.codec import MAX_BYTES

if TYPE_CHECKING:
    from tests.wire.conftest import Service, Start

DATE = datetime(2011, 9, 1, 12, 30, 1)  # noqa: DTZ001 - as the API writes them
MANY = 50


def test_every_type_comes_back(service: "Service") -> None:
    sent = [None, True, -5, 2.5, "caf\u00e9 <&>\n", b"\x00\xff", DATE, [1, [2]], {"a": {"b": None}}]
    with service.proxy() as server:
        assert server.echo(*sent) == sent


def test_dates_as_gandi_cli_reads_them(service: "Service") -> None:
    url = f"http://127.0.0.1:{service.port}/xmlrpc/2.0"
    with xmlrpc.client.ServerProxy(url, allow_none=True, use_datetime=True) as server:
        assert server.date(DATE) == DATE


def test_long_calls_and_answers(service: "Service") -> None:
    script = "echo '\u00e9'\n" * 60000
    with service.proxy() as server:
        assert server.echo(script) == [script]


def test_faults_are_raised_by_the_client(service: "Service") -> None:
    with service.proxy() as server, pytest.raises(xmlrpc.client.Fault) as caught:
        server.hosting.vm.nothing("key")
    assert caught.value.faultCode == 1
    assert caught.value.faultString == 'Method "hosting.vm.nothing" is not supported'


def test_the_address_is_the_sockets(service: "Service") -> None:
    with service.proxy(headers=[("X-Forwarded-For", "203.0.113.9")]) as server:
        assert server.where() == "127.0.0.1"


def test_calls_run_side_by_side(service: "Service") -> None:
    def call(number: int) -> Any:
        with service.proxy() as server:
            server.sleep(0.2)
            return server.echo(number)

    started = time.monotonic()
    with ThreadPoolExecutor(MANY) as pool:
        assert list(pool.map(call, range(MANY))) == [[number] for number in range(MANY)]
    assert time.monotonic() - started < MANY * 0.2 / 3


def test_methods_and_sizes_are_refused_by_status(service: "Service") -> None:
    connection = service.http()
    connection.request("GET", "/xmlrpc/")
    response = connection.getresponse()
    assert (response.status, response.headers["Allow"]) == (405, "POST")
    response.read()
    connection.putrequest("POST", "/xmlrpc/")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    with service.proxy() as server, pytest.raises(xmlrpc.client.ProtocolError) as caught:
        server.echo("x" * MAX_BYTES)
    assert caught.value.errcode == 413


def test_chunked_calls(service: "Service") -> None:
    body = xmlrpc.client.dumps((1,), "echo").encode()
    connection = service.http()
    connection.request("POST", "/xmlrpc/", iter([body[:50], body[50:]]), encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 200
    assert b"<int>1</int>" in response.read()
    chunk = b"%x\r\n%s\r\n" % (65536, b" " * 65536)
    with service.connect() as bare:
        bare.sendall(b"POST /xmlrpc/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 17)
        assert bare.recv(1000).startswith(b"HTTP/1.1 413 ")
    connection.close()


def test_silent_clients_hold_nobody_up(service: "Service") -> None:
    silent = [service.connect() for _ in range(MANY)]
    with service.proxy() as server:
        started = time.monotonic()
        assert server.echo(1) == [1]
        assert time.monotonic() - started < 1
    for connection in silent:
        connection.close()


def test_clients_that_do_not_close_hold_nobody_up(service: "Service") -> None:
    body = xmlrpc.client.dumps((1,), "echo").encode()
    head = b"POST /xmlrpc/ HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
    lingering = [service.connect() for _ in range(10)]
    for connection in lingering:
        connection.sendall(head + body)
    for connection in lingering:
        assert connection.recv(100).startswith(b"HTTP/1.0 200 OK")
    with service.proxy() as server:
        started = time.monotonic()
        assert server.echo(1) == [1]
        assert time.monotonic() - started < 1.5
    for connection in lingering:
        connection.close()


def test_slow_clients_are_let_go(service: "Service") -> None:
    """More of them than threads, each a byte a second: the others wait until the deadline, not for ever."""
    slow = [service.connect() for _ in range(16)]
    for connection in slow:
        connection.sendall(b"POST /xmlrpc/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n<")
    started = time.monotonic()
    with service.proxy() as server:
        assert server.echo(1) == [1]
    assert time.monotonic() - started < 25
    assert slow[0].recv(100).startswith(b"HTTP/1.1 408 ")
    for connection in slow:
        connection.close()


def test_what_is_not_http_does_not_get_into_the_log(service: "Service") -> None:
    with service.connect() as bare:
        bare.sendall(b"<value><string>0123456789abcdefghijklmn</string></value>\r\n\r\n")
        answer = bare.recv(1000)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"0123456789" not in answer
    service.wait_for(lambda: "127.0.0.1 sent what is not HTTP: InvalidRequest" in service.log())
    assert "0123456789" not in service.log()
    assert "Traceback" not in service.log()


def test_it_idles_quietly(service: "Service") -> None:
    """Master and worker together: less than 1 % of a processor."""
    processes = [service.process.pid, service.lines("ready")[0]]

    def ticks() -> int:
        stats = [
            Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split() for process in processes
        ]
        return sum(int(stat[11]) + int(stat[12]) for stat in stats)

    time.sleep(1)
    before = ticks()
    time.sleep(3)
    assert (ticks() - before) / os.sysconf("SC_CLK_TCK") < 0.03


def test_sigterm_lets_calls_finish(start: "Start") -> None:
    service = start().wait_ready()
    (worker,) = service.lines("ready")
    with ThreadPoolExecutor(1) as pool, service.proxy() as server:
        answer = pool.submit(server.sleep, 1.0)
        time.sleep(0.3)
        service.process.send_signal(signal.SIGTERM)
        assert answer.result() is None
    assert service.process.wait(10) == 0
    assert service.lines("stopped") == [worker]
    assert service.lines("after") == [service.process.pid]
    assert not service.alive(worker)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_it_ends_soon_with_idle_connections(start: "Start", ending: signal.Signals) -> None:
    service = start().wait_ready()
    with service.connect(), service.proxy() as server:
        server.echo()
        service.process.send_signal(ending)
        assert service.process.wait(5) == 0
    assert service.lines("stopped") == service.lines("ready")


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGQUIT])
def test_it_ends_soon_while_it_starts_a_thread(start: "Start", ending: signal.Signals) -> None:
    service = start("tardy").wait_ready()
    with service.proxy() as server:
        # answered by the new thread, before the one that started it goes on
        server.echo()
        service.process.send_signal(ending)
        assert service.process.wait(5) == 0
    assert service.lines("stopped") == service.lines("ready")


@pytest.mark.parametrize("mode", ["serve", "hang"])
def test_the_worker_does_not_outlive_its_master(start: "Start", mode: str) -> None:
    service = start(mode).wait_ready()
    (worker,) = service.lines("ready")
    with service.connect(), service.proxy() as server, ThreadPoolExecutor(1) as pool:
        server.echo()
        busy = pool.submit(service.proxy().sleep, 30.0)
        time.sleep(0.3)
        service.process.kill()
        service.wait_for(lambda: not service.alive(worker), 1.5)
        with pytest.raises((OSError, http.client.HTTPException)):
            busy.result()
    assert service.lines("stopped") == [worker]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("fail", "The service cannot start: libvirt does not answer"),
        ("exit", "The service cannot start: its process"),
        ("crash", "The service cannot start: its process"),
    ],
)
def test_a_start_that_fails_is_not_tried_again(start: "Start", mode: str, reason: str) -> None:
    service = start(mode)
    assert service.process.wait(10) == 3
    assert reason in service.log()
    assert len(service.lines("started")) == 1
    assert service.lines("stopped") == []
    assert service.lines("after") == [service.process.pid]


def test_a_dead_worker_is_replaced(start: "Start") -> None:
    service = start().wait_ready()
    with service.proxy() as server:
        before = server.pid()
    connection = service.http()
    connection.request("POST", "/xmlrpc/", xmlrpc.client.dumps((), "die"))
    with pytest.raises((OSError, http.client.HTTPException)):
        connection.getresponse()
    connection.close()
    with service.proxy() as server:
        assert server.pid() != before
    assert len(service.lines("started")) == 2
    assert len(service.lines("ready")) == 1


def test_no_signal_makes_a_second_worker(start: "Start") -> None:
    service = start().wait_ready()
    for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2):
        service.process.send_signal(number)
    service.wait_for(lambda: service.log().count("is ignored") == 4)
    with service.proxy() as server:
        assert server.pid() == service.lines("ready")[0]
    assert len(service.lines("started")) == 1


def test_a_unix_socket_comes_and_goes(start: "Start", tmp_path: Path) -> None:
    path = tmp_path / "socket"
    service = start(address=f"unix:{path}").wait_ready()
    with socket.socket(socket.AF_UNIX) as bare:
        bare.connect(str(path))
        body = xmlrpc.client.dumps((), "where").encode()
        head = b"POST /xmlrpc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(
            body
        )
        bare.sendall(head + body)
        with bare.makefile("rb") as answer:
            assert b"<string>unix</string>" in answer.read()
    service.process.terminate()
    assert service.process.wait(10) == 0
    assert not path.exists()
