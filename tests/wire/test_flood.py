"""Many clients, rude ones and hostile requests, by real sockets: the others are served, and memory stays."""

import resource
import socket
import struct
import time
import xmlrpc.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from api.wire.codec import MAX_BYTES
from tests.wire.test_hostile import CALL, HOSTILE

if TYPE_CHECKING:
    from tests.wire.conftest import Service, Start

MANY = 10_000
HEAD = b"POST /xmlrpc/ HTTP/1.1\r\nHost: x\r\n"
# ends a connection with a reset instead of a proper end
RESET = struct.pack("ii", 1, 0)


def resident(service: "Service") -> int:
    """Memory of the process that answers, in MiB."""
    pages = Path(f"/proc/{service.lines('started')[-1]}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize() // 2**20


def served(service: "Service") -> float:
    """How long somebody who behaves waits for an answer, in seconds."""
    started = time.monotonic()
    with service.proxy() as server:
        assert server.echo(1) == [1]
    return time.monotonic() - started


@contextmanager
def files(number: int) -> Iterator[None]:
    """Allow this process so many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        pytest.skip(f"this host allows {hard} open files, not {number}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_idle_connections(start: "Start") -> None:
    service = start().wait_ready()
    before = resident(service)
    with files(MANY + 1000), ExitStack() as idle:
        for _ in range(MANY):
            idle.enter_context(service.connect())
        waits = [served(service) for _ in range(20)]
        grown = resident(service) - before
    print(f"{MANY} connections: {grown} MiB more, answers after {min(waits):.3f} to {max(waits):.3f} s")
    assert max(waits) < 2
    assert grown < 256
    # all of them have left at once
    assert served(service) < 15


def test_clients_that_leave_in_the_middle(service: "Service") -> None:
    """A reset, an end or a half-closed connection at every place of a request."""
    body = CALL % b"1"
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for place in range(1, len(whole), 7):
        for way in ("reset", "end"):
            with service.connect() as client:
                client.sendall(whole[:place])
                if way == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with service.connect() as half:
        half.sendall(whole)
        half.shutdown(socket.SHUT_WR)
        assert half.recv(15) == b"HTTP/1.1 200 OK"
    with service.connect() as half:
        half.sendall(whole[:-10])
        half.shutdown(socket.SHUT_WR)
        assert half.recv(12) == b"HTTP/1.1 400"
    assert served(service) < 2
    assert "Traceback" not in service.log()


def test_answers_that_nobody_takes(service: "Service") -> None:
    """More clients than threads ask for a long answer and do not read it."""
    body = xmlrpc.client.dumps(("x" * (MAX_BYTES - 1000),), "echo").encode()
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    before = resident(service)
    with ExitStack() as stack:
        for _ in range(20):
            client = socket.socket()
            stack.enter_context(client)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", service.port))
            client.sendall(request)
        assert served(service) < 5
        assert resident(service) - before < 200
    assert served(service) < 5


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_requests(service: "Service", body: bytes) -> None:
    """Answered by a fault, or refused by size."""
    connection = service.http()
    connection.request("POST", "/xmlrpc/", body)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    if response.status == 413:
        assert len(body) > MAX_BYTES
        return
    assert response.status == 200
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xmlrpc.client.loads(answer)
    assert caught.value.faultCode // 1000 in (500, 501)
    assert b"Traceback" not in answer


def test_memory_stays_where_it_is(service: "Service") -> None:
    """Every hostile request ten times, sixteen at a time."""

    def send(body: bytes) -> int:
        connection = service.http()
        connection.request("POST", "/xmlrpc/", body)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    with ThreadPoolExecutor(16) as pool:
        statuses = set(pool.map(send, list(HOSTILE.values()) * 3))
        before = resident(service)
        statuses |= set(pool.map(send, list(HOSTILE.values()) * 7))
    grown = resident(service) - before
    print(f"{len(HOSTILE) * 7} hostile requests: {grown} MiB more")
    assert statuses == {200, 413}
    assert grown < 64
    assert "Traceback" not in service.log()


def test_members_given_twice(service: "Service") -> None:
    twice = b"<struct>%s%s</struct>" % ((b"<member><name>a</name><value>1</value></member>",) * 2)
    connection = service.http()
    connection.request("POST", "/xmlrpc/", CALL % twice)
    with pytest.raises(xmlrpc.client.Fault, match="a"):
        xmlrpc.client.loads(connection.getresponse().read())
    connection.close()
