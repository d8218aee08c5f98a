"""A real server that speaks TLS, and clients that do it well, slowly or not at all."""

import http.client
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import time
import xmlrpc.client
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from api.wire.self_signed import EARLY, SelfSigned, make
from api.wire.tls import Tls, TlsError, load, read
from tests.wire.conftest import Service as Server

if TYPE_CHECKING:
    from tests.wire.conftest import Service, Start

Files = tuple[Path, Path]
NAMES = ("localhost", "127.0.0.1", "::1")
THREADS = 16


def made(folder: Path, name: str = "tls", lifetime: timedelta = timedelta(days=1)) -> Files:
    """A certificate and its key."""
    files = folder / f"{name}-cert.pem", folder / f"{name}-key.pem"
    make(*files, NAMES, lifetime)
    return files


def trusting(cert: Path) -> ssl.SSLContext:
    """A client that trusts the certificate and nothing else, as strict as Python 3.13 is by default."""
    context = ssl.create_default_context(cafile=str(cert))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The certificate of `service`, and its key."""
    return made(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Iterator["Service"]:
    """A server with TLS, for the tests that leave it as it was."""
    running = Server(tmp_path_factory.mktemp("service"), tls=files)
    try:
        yield running.wait_ready()
    finally:
        running.end()


def proxy(service: "Service", cert: Path) -> xmlrpc.client.ServerProxy:
    """Python's own client, by https."""
    url = f"https://localhost:{service.port}/xmlrpc/"
    return xmlrpc.client.ServerProxy(url, allow_none=True, context=trusting(cert))


def encrypted(service: "Service", cert: Path) -> ssl.SSLSocket:
    """A connection whose handshake is done."""
    return trusting(cert).wrap_socket(service.connect(), server_hostname="localhost")


def shown(service: "Service") -> str:
    """The certificate that the server shows, in PEM."""
    return ssl.get_server_certificate(("127.0.0.1", service.port))


def test_calls_and_urls_are_https(service: "Service", files: Files) -> None:
    with proxy(service, files[0]) as server:
        assert server.echo("café", 1) == ["café", 1]
        assert server.root() == f"https://localhost:{service.port}/"
        assert server.where() == "127.0.0.1"


def test_long_calls_and_answers(service: "Service", files: Files) -> None:
    script = "echo 'é'\n" * 60000
    with proxy(service, files[0]) as server:
        assert server.echo(script) == [script]
        assert server.echo(1) == [1]


def test_curl_trusts_the_file_and_not_without(service: "Service", files: Files) -> None:
    url = f"https://127.0.0.1:{service.port}/"
    told = subprocess.run(["curl", "-sS", "--cacert", files[0], url], capture_output=True, text=True)
    assert told.stdout.startswith("This is a Hosting API server"), told.stderr
    assert subprocess.run(["curl", "-sS", url], capture_output=True).returncode == 60


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_old_versions_of_tls_are_refused(service: "Service", files: Files) -> None:
    context = trusting(files[0])
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with service.connect() as bare, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        context.wrap_socket(bare, server_hostname="localhost")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with service.connect() as bare, context.wrap_socket(bare, server_hostname="localhost") as good:
        assert good.version() == "TLSv1.2"


def test_who_speaks_no_tls_is_told(service: "Service") -> None:
    connection = service.http()
    connection.request("POST", "/xmlrpc/", xmlrpc.client.dumps((), "echo"))
    answer = connection.getresponse()
    assert (answer.status, b"https" in answer.read()) == (400, True)
    connection.close()


def test_requests_in_one_record_are_all_answered(service: "Service", files: Files) -> None:
    """What TLS has decrypted already makes the socket readable for nobody."""
    body = xmlrpc.client.dumps((1,), "echo").encode()
    one = b"POST /xmlrpc/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    # together more than a read takes, less than a record holds
    together = one * (12000 // len(one))
    with encrypted(service, files[0]) as connection, connection.makefile("rb") as answers:
        connection.settimeout(5)
        connection.sendall(together)
        for _ in range(12000 // len(one)):
            while b"<int>1</int>" not in answers.readline():
                pass


def test_handshakes_that_never_end_hold_nobody_up(service: "Service", files: Files) -> None:
    """More of them than threads, each at another point: silent, in the first record, and after it."""
    stuck = unfinished(service, files[0], 3 * THREADS)
    started = time.monotonic()
    with proxy(service, files[0]) as server:
        assert server.echo(1) == [1]
    assert time.monotonic() - started < 1
    for connection in stuck:
        connection.close()


def test_handshakes_that_never_end_are_hung_up_on(start: "Start", files: Files) -> None:
    service = start("hasty", tls=files).wait_ready()
    started = time.monotonic()
    for connection in unfinished(service, files[0], 3):
        with connection:
            connection.settimeout(10)
            while connection.recv(65536):
                pass
    assert 1.5 < time.monotonic() - started < 6


def unfinished(service: "Service", cert: Path, count: int) -> list[socket.socket]:
    """Connections in the middle of their handshakes."""
    hello = hello_of(cert)
    opened = [service.connect() for _ in range(count)]
    for number, connection in enumerate(opened):
        connection.sendall((b"", hello[:20], hello)[number % 3])
    return opened


def hello_of(cert: Path) -> bytes:
    """The first message of a client."""
    out = ssl.MemoryBIO()
    client = trusting(cert).wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def test_clients_that_are_silent_after_the_handshake_hold_nobody_up(service: "Service", files: Files) -> None:
    silent = [encrypted(service, files[0]) for _ in range(2 * THREADS)]
    with proxy(service, files[0]) as server:
        started = time.monotonic()
        assert server.echo(1) == [1]
        assert time.monotonic() - started < 1
    for connection in silent:
        connection.close()


def test_an_answer_ends_with_a_word(service: "Service", files: Files) -> None:
    """close_notify: the client knows that nothing was cut off."""
    with (
        service.connect() as bare,
        trusting(files[0]).wrap_socket(
            bare, server_hostname="localhost", suppress_ragged_eofs=False
        ) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.0 200 OK")


def test_garbage_and_hanging_up_leave_it_as_it_was(service: "Service", files: Files) -> None:
    (worker,) = service.lines("ready")
    for sent in (b"", b"\x16", os.urandom(500), hello_of(files[0])):
        with service.connect() as bare:
            bare.sendall(sent)
            # a reset, not an end
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    with proxy(service, files[0]) as server:
        assert server.pid() == worker
    assert "Traceback" not in service.log()


def test_a_renewed_certificate_is_taken_up(start: "Start", tmp_path: Path) -> None:
    files, new, wrong = (made(tmp_path, name) for name in ("used", "new", "wrong"))
    service = start(tls=files).wait_ready()
    before = files[0].read_text()
    with proxy(service, files[0]) as server:
        server.echo()
        assert shown(service) == before
        # halfway: a certificate without its key is not taken
        shutil.copy(new[0], files[0])
        assert shown(service) == before
        service.wait_for(lambda: "does not belong to the certificate" in service.log())
        shutil.copy(new[1], files[1])
        assert shown(service) == new[0].read_text()
        # a connection that was there before goes on
        assert server.echo(1) == [1]
    files[1].unlink()
    wrong[0].rename(files[0])
    assert shown(service) == new[0].read_text()
    assert service.log().count("the certificate in use stays") == 2


def test_sigterm_lets_encrypted_calls_finish(start: "Start", files: Files) -> None:
    service = start(tls=files).wait_ready()
    body = xmlrpc.client.dumps((1.0,), "sleep").encode()
    context = trusting(files[0])
    with closing(http.client.HTTPSConnection("localhost", service.port, context=context)) as connection:
        connection.request("POST", "/xmlrpc/", body)
        time.sleep(0.3)
        service.process.send_signal(signal.SIGTERM)
        assert connection.getresponse().status == 200
    assert service.process.wait(10) == 0


def test_what_cannot_be_used_is_said_at_the_start(start: "Start", tmp_path: Path) -> None:
    cert, _ = made(tmp_path)
    service = start(tls=(cert, tmp_path / "none.pem"))
    assert service.process.wait(10) == 3
    assert (
        f"The service cannot start: the key {tmp_path / 'none.pem'} cannot be read: No such" in service.log()
    )
    assert "Traceback" not in service.log()
    assert service.lines("started") == []


def test_each_reason_is_told(tmp_path: Path) -> None:
    cert, key = made(tmp_path)
    _, other = made(tmp_path, "other")
    old = made(tmp_path, "old", timedelta(minutes=-1))
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nothing")
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "pkey", "-in", key, "-out", locked, "-aes256", "-passout", "pass:secret"], check=True
    )
    for pair, reason in (
        ((cert, other), "the key .*other-key.pem does not belong to the certificate .*tls-cert.pem"),
        (old, "the certificate .*old-cert.pem ended on 20.* UTC: renew it"),
        ((nonsense, key), "nonsense.pem holds no certificate in PEM form"),
        ((cert, nonsense), "the key .*nonsense.pem is no private key in PEM form without a password"),
        ((cert, locked), "the key .*locked.pem is no private key in PEM form without a password"),
        ((tmp_path, key), "the certificate .* cannot be read: Is a directory"),
    ):
        with pytest.raises(TlsError, match=reason):
            load(*pair)
    assert load(cert, key).minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_self_signed_certificate_is_made_once_and_anew_in_time(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    SelfSigned(cert, key, NAMES).refresh()
    assert (stat.S_IMODE(key.stat().st_mode), stat.S_IMODE(cert.stat().st_mode)) == (0o600, 0o644)
    assert read(cert).names == set(NAMES)
    first = read(cert)
    for names in (NAMES, NAMES[:1]):
        SelfSigned(cert, key, names).refresh()
    assert read(cert) == first
    # for another name, near its end, without its key: anew
    SelfSigned(cert, key, (*NAMES, "cloud.example")).refresh()
    assert read(cert).names == {*NAMES, "cloud.example"}
    make(cert, key, NAMES, EARLY - timedelta(minutes=1))
    running = SelfSigned(cert, key, NAMES)
    running.refresh()
    assert read(cert).ends > datetime.now(UTC) + 2 * EARLY
    key.unlink()
    SelfSigned(cert, key, NAMES).refresh()
    load(cert, key)


def test_a_running_server_renews_its_own(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make(cert, key, NAMES, EARLY + timedelta(seconds=3))
    tls = Tls(cert, key, SelfSigned(cert, key, NAMES).refresh)
    tls.open()
    before, context = read(cert), tls.context()
    assert tls.context() is context
    Server.wait_for(lambda: tls.context() is not context)
    assert read(cert).fingerprint != before.fingerprint
