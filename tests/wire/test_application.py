"""The WSGI application, called without a server."""

import gzip
import io
import logging
import xmlrpc.client
from collections.abc import Sequence
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from api.methods.faults import Fault, unknown_method
from api.wire.application import PATHS, Application
from api.wire.values import Value

KEY = "0123456789abcdefghijklmn"
SECRETS = (KEY, "hunter2hunter2", "#!/bin/sh\nrm -rf /")


def answers(method: str, arguments: Sequence[Value], remote_address: str, root: str, /) -> Value:
    """A dispatcher with one method for each thing that can happen."""
    match method:
        case "echo":
            return list(arguments)
        case "where":
            return remote_address
        case "root":
            return root
        case "long":
            return ["0123456789"] * 200
        case "refuse":
            raise Fault(530242, "Error on object : OBJECT_VM (CAUSE_NOTFOUND) [Vm '1' doesn't exist.]")
        case "break":
            raise RuntimeError("the disk fell off")
        case "leak":
            leak(arguments)
        case "overflow":
            return 2**40
    raise unknown_method(method)


def leak(arguments: Sequence[Value]) -> None:
    """Fail with messages that quote what was sent, whole and in part."""
    try:
        int(f"bad parameters {arguments!r}")
    except ValueError as error:
        raise KeyError(str(arguments[0])[:10]) from error


@pytest.fixture
def client() -> Client:
    """A client of the application above."""
    return Client(Application(answers, max_bytes=20000))


def call(client: Client, method: str, *arguments: Any, **options: Any) -> TestResponse:
    """POST one call."""
    body = xmlrpc.client.dumps(arguments, method, allow_none=True)
    return client.post("/xmlrpc/", data=body, content_type="text/xml", **options)


def result(response: TestResponse) -> Any:
    """What the response carries."""
    (values, _) = xmlrpc.client.loads(response.get_data(as_text=True), use_builtin_types=True)
    return values[0]


def fault(response: TestResponse) -> xmlrpc.client.Fault:
    """The fault that the response carries, which must have come with status 200."""
    assert response.status_code == 200
    assert response.content_type == "text/xml; charset=utf-8"
    with pytest.raises(xmlrpc.client.Fault) as caught:
        result(response)
    return caught.value


@pytest.mark.parametrize("path", PATHS)
def test_every_endpoint_answers(client: Client, path: str) -> None:
    response = client.post(path, data=xmlrpc.client.dumps((1, "a"), "echo"))
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/xml; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    assert int(response.headers["Content-Length"]) == len(response.get_data())
    assert result(response) == [1, "a"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_endpoints_take_post_only(client: Client, method: str) -> None:
    response = client.open("/xmlrpc/", method=method)
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"


def test_the_front_page_says_where_to_go(client: Client) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert response.mimetype == "text/plain"
    assert "http://localhost/xmlrpc/" in response.text
    assert client.post("/").headers["Allow"] == "GET, HEAD"
    assert client.get("/elsewhere").status_code == 404


def test_refusals_are_faults_with_status_200(client: Client) -> None:
    assert fault(call(client, "refuse")).faultCode == 530242
    assert fault(call(client, "nothing")).faultString == 'Method "nothing" is not supported'
    assert fault(client.post("/xmlrpc/", data=b"<oops/>")).faultCode == 500020
    assert fault(client.post("/xmlrpc/", data=b"")).faultCode == 500020


@pytest.mark.parametrize("method", ["break", "overflow"])
def test_defects_are_a_fault_and_an_incident(
    client: Client, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = fault(call(client, method, KEY))
    assert answer.faultCode == 150000
    assert (
        answer.faultString == "Error on object : OBJECT_APPLICATION (CAUSE_UNKNOWN) [Internal Server Error]"
    )
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().startswith("incident ")
    assert 'File "' in record.getMessage()
    assert ("the disk fell off" in record.getMessage()) == (method == "break")


def test_the_log_has_no_secret(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for method in ("echo", "leak", "refuse", "nothing"):
        call(client, method, KEY, {"password": SECRETS[1], "script": SECRETS[2]})
    client.post("/xmlrpc/", data=f"<methodCall><methodName>x</methodName>{KEY}</methodCall>")
    for secret in SECRETS:
        assert secret[:8] not in caplog.text
    assert "int(f" in caplog.text
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert [line.split()[1:3] for line in lines] == [
        ["echo", "fault=0"],
        ["leak", "fault=150000"],
        ["refuse", "fault=530242"],
        ["nothing", "fault=1"],
        ["-", "fault=500020"],
    ]


def test_the_address_is_the_sockets(client: Client) -> None:
    spoofed = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    assert result(call(client, "where", headers=spoofed, environ_overrides={"REMOTE_ADDR": "::1"})) == "::1"
    assert result(call(client, "where", environ_overrides={"REMOTE_ADDR": ""})) == "unix"


@pytest.mark.parametrize(
    ("accepts", "compressed"),
    [("gzip", True), ("gzip, deflate", True), ("identity", False), ("gzip;q=0", False), (None, False)],
)
def test_long_answers_are_compressed_when_asked(
    client: Client, accepts: str | None, compressed: bool
) -> None:
    headers = {"Accept-Encoding": accepts} if accepts else {}
    response = call(client, "long", headers=headers)
    assert (response.headers.get("Content-Encoding") == "gzip") == compressed
    assert response.headers["Vary"] == "Accept-Encoding"
    assert int(response.headers["Content-Length"]) == len(response.get_data())
    body = gzip.decompress(response.get_data()) if compressed else response.get_data()
    assert body.count(b"0123456789") == 200
    assert "Content-Encoding" not in call(client, "where", headers=headers).headers


class Endless(io.RawIOBase):
    """A body that never ends, and counts what was read of it."""

    taken = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Spaces, as many as asked for."""
        buffer[:] = b" " * len(buffer)
        self.taken += len(buffer)
        return len(buffer)


def test_bodies_are_bounded(client: Client) -> None:
    body = Endless()
    announced = {"wsgi.input": body, "CONTENT_LENGTH": "20001", "wsgi.input_terminated": True}
    assert client.post("/xmlrpc/", environ_overrides=announced).status_code == 413
    assert body.taken == 0
    chunked = {"wsgi.input": body, "CONTENT_LENGTH": "", "wsgi.input_terminated": True}
    assert client.post("/xmlrpc/", environ_overrides=chunked).status_code == 413
    assert body.taken <= 2 * 20001


def test_bodies_that_end_early_or_are_compressed_are_refused(client: Client) -> None:
    short = {"wsgi.input": io.BytesIO(b"<m"), "CONTENT_LENGTH": "10", "wsgi.input_terminated": True}
    assert client.post("/xmlrpc/", environ_overrides=short).status_code == 400
    plain = {"wsgi.input": io.BytesIO(b"<m"), "CONTENT_LENGTH": "10"}
    assert client.post("/xmlrpc/", environ_overrides=plain).status_code == 400
    assert client.post("/xmlrpc/", data=b"", headers={"Content-Encoding": "gzip"}).status_code == 415


def test_a_call_knows_the_root_by_which_it_came(client: Client) -> None:
    def root(**options: Any) -> Any:
        (found,), _ = xmlrpc.client.loads(call(client, "root", **options).data)
        return found

    assert root(headers={"Host": "api.example:8080"}) == "http://api.example:8080/"
    assert root(headers={"Host": "[::1]:8080"}) == "http://[::1]:8080/"
    assert root(headers={"Host": "exa<mple"}) == ""
    assert root(headers={"X-Forwarded-Host": "evil.example", "Host": "api.example"}) == "http://api.example/"


SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"


@pytest.fixture
def drawing() -> Client:
    """A client of an application that draws one graph."""

    def graphs(token: str, /) -> bytes | None:
        if token == "broken":
            raise RuntimeError("no ink")
        return SVG if token == "good" else None

    return Client(Application(answers, graphs))


def test_a_graph_is_a_picture_and_nothing_else(drawing: Client) -> None:
    answer = drawing.get("/graphs/good.svg")
    assert (answer.status_code, answer.data, answer.content_type) == (200, SVG, "image/svg+xml")
    policy = answer.headers["Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    head = drawing.head("/graphs/good.svg")
    assert (head.status_code, head.data, head.content_length) == (200, b"", len(SVG))


def test_what_is_no_graph_is_not_there(drawing: Client) -> None:
    paths = ["/graphs/bad.svg", "/graphs/", "/graphs/good", "/graphs/good.svg/", "/graphs/go/od.svg",
             "/graphs/" + "a" * 5000 + ".svg", "/graphs/good%0A.svg", "/graphs/g%C3%B6.svg"]  # fmt: skip
    answers = [drawing.get(path) for path in paths]
    assert {(one.status_code, one.data) for one in answers} == {(404, b"404 Not Found\n")}
    assert len({tuple(sorted(one.headers.items())) for one in answers}) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("token", ["good", "bad"])
def test_graphs_are_only_read(drawing: Client, method: str, token: str) -> None:
    answer = drawing.open(f"/graphs/{token}.svg", method=method)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_a_graph_that_fails_is_an_incident(drawing: Client, caplog: pytest.LogCaptureFixture) -> None:
    answer = drawing.get("/graphs/broken.svg")
    assert (answer.status_code, answer.data) == (500, b"500 Internal Server Error\n")
    assert "no ink" in caplog.text
