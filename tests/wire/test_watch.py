"""What watches the service asks: health, readiness, metrics, and who may have them."""

import json
from collections.abc import Sequence
from ipaddress import ip_network

import pytest
from werkzeug.test import Client

import api.methods
from api.methods.faults import Cause, Fault, Object, refuse
from api.observe.meters import Exposition
from api.wire.application import Application
from api.wire.values import Value
from api.wire.watch import Watch

api.methods.load()

SCRAPERS = [ip_network("127.0.0.0/8"), ip_network("::1/128"), ip_network("2001:db8::/64")]


def dispatch(method: str, _arguments: Sequence[Value], _remote: str, _root: str, /) -> Value:
    """Refuses, fails, or answers."""
    match method:
        case "hosting.vm.info":
            raise refuse(Object.VM, Cause.NOTFOUND, "gone")
        case "version.info":
            return {}
        case "hosting.vm.list":
            raise RuntimeError("a defect")
    raise Fault(1, "no such method")


@pytest.fixture
def wrong() -> dict[str, str]:
    """What is wrong with the service."""
    return {}


@pytest.fixture
def client(wrong: dict[str, str]) -> Client:
    """A client of an application that is watched."""
    return Client(Application(dispatch, watch=Watch(lambda: wrong, Exposition().render, SCRAPERS)))


def metrics(client: Client) -> dict[str, float]:
    """The samples of a scrape, by name and labels."""
    text = client.get("/metrics", environ_overrides={"REMOTE_ADDR": "127.0.0.1"}).text
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def call(client: Client, body: str) -> None:
    """A call, well-formed or not."""
    assert client.post("/xmlrpc/", data=body).status_code == 200


def named(method: str) -> str:
    """The body of a call."""
    return f"<?xml version='1.0'?><methodCall><methodName>{method}</methodName></methodCall>"


def test_health_says_who_answers(client: Client) -> None:
    answer = client.get("/healthz", environ_overrides={"REMOTE_ADDR": "203.0.113.9"})
    assert (answer.status_code, answer.json) == (200, {"status": "ok", "service": "hypervisor"})
    assert client.head("/healthz").status_code == 200
    assert client.post("/healthz").status_code == 405


def test_readiness_is_503_with_its_reasons(client: Client, wrong: dict[str, str]) -> None:
    assert client.get("/readyz").status_code == 200
    wrong["libvirt"] = "it is away"
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert json.loads(answer.text) == {"status": "not ready", "reasons": {"libvirt": "it is away"}}


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("127.0.0.1", 200), ("127.5.5.5", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("", 200),
        ("2001:db8::7", 200), ("2001:db8:0:1::7", 404), ("10.105.0.2", 404), ("203.0.113.9", 404),
    ],
)  # fmt: skip
def test_metrics_are_for_those_named(client: Client, address: str, status: int) -> None:
    assert client.get("/metrics", environ_overrides={"REMOTE_ADDR": address}).status_code == status


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_what_a_proxy_passes_on_gets_no_metrics(client: Client, header: str) -> None:
    answer = client.get("/metrics", headers={header: "x"}, environ_overrides={"REMOTE_ADDR": "127.0.0.1"})
    assert answer.status_code == 404


def test_without_a_watch_there_are_no_such_pages() -> None:
    plain = Client(Application(dispatch))
    assert {plain.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")} == {404}


def test_calls_are_counted_by_the_tables_names_and_causes(client: Client) -> None:
    before = metrics(client)
    for method in (
        "version.info",
        "vm.info",
        "hosting.vm.info",
        "hosting.vm.list",
        "no.such",
        "other.such",
        "-",
    ):
        call(client, named(method))
    call(client, "<oops")
    after = metrics(client)
    counted = {
        name.removeprefix("hypervisor_requests_total"): after[name] - before.get(name, 0)
        for name in after
        if name.startswith("hypervisor_requests_total") and after[name] != before.get(name, 0)
    }
    assert counted == {
        '{fault="none",method="version.info"}': 1,
        '{fault="notfound",method="hosting.vm.info"}': 1,
        '{fault="unknown method",method="hosting.vm.info"}': 1,  # by its alias
        '{fault="internal",method="hosting.vm.list"}': 1,
        '{fault="unknown method",method="unknown"}': 2,
        '{fault="syntax",method="none"}': 2,
    }
    count = "hypervisor_request_seconds_count"
    assert after[count] - before[count] == 8


def test_a_callers_names_make_no_labels(client: Client) -> None:
    for number in range(50):
        call(client, named(f"made.up{number}"))
    assert "made.up" not in client.get("/metrics", environ_overrides={"REMOTE_ADDR": "127.0.0.1"}).text
