"""Graphs: who may see them, what is drawn, and the probes beside them."""

import re
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from api.methods.graph.drawing import draw
from api.methods.graph.links import Graph, Kind, Links, Span
from api.methods.graph.pages import Pages
from api.service import graph_secret, own_url
from api.store.models import Vm
from api.store.statistics import Point, Source
from tests.methods.world import World

END = 1_795_620_000
ROOT = "http://api.example:8080/"


class Clock:
    """The time as a test wants it."""

    def __init__(self) -> None:
        self.now = float(END)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def links(clock: Clock) -> Links:
    return Links(b"secret", 3600, None, "http://localhost", clock)


def token(url: str) -> str:
    found = re.fullmatch(r".*/graphs/([A-Za-z0-9_-]+)\.svg", url)
    assert found, url
    return found[1]


GRAPH = Graph(12, Kind.VIF, 7, Span.DAY)


# tokens


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("span", Span)
def test_a_url_stands_for_its_graph(links: Links, kind: Kind, span: Span) -> None:
    graph = Graph(2**31 - 1, kind, 2**31 - 1, span)
    assert links.read(token(links.url(graph, ROOT))) == graph


def test_urls_begin_with_what_the_caller_used(clock: Clock, links: Links) -> None:
    assert links.url(GRAPH, ROOT).startswith("http://api.example:8080/graphs/")
    assert links.url(GRAPH, "").startswith("http://localhost/graphs/")
    public = Links(b"secret", 3600, "https://www.example.net/hosting/", "http://localhost", clock)
    assert public.url(GRAPH, ROOT).startswith("https://www.example.net/hosting/graphs/")


def test_a_token_expires(clock: Clock, links: Links) -> None:
    given = token(links.url(GRAPH, ROOT))
    clock.now += 3600
    assert links.read(given) == GRAPH
    clock.now += 60
    assert links.read(given) is None


def test_no_altered_token_is_good(links: Links) -> None:
    good = token(links.url(GRAPH, ROOT))
    for position in range(len(good)):
        for other in "Aa0_-":
            altered = good[:position] + other + good[position + 1 :]
            assert altered == good or links.read(altered) is None
    for altered in (
        "",
        "A",
        good[:-4],
        good + "AAAA",
        good[:-1],
        good + "=",
        good + "\n",
        "é" * 40,
        "A" * 40,
    ):
        assert links.read(altered) is None


def test_another_services_token_is_not_good(clock: Clock, links: Links) -> None:
    other = Links(b"another secret", 3600, None, "http://localhost", clock)
    assert links.read(token(other.url(GRAPH, ROOT))) is None


def test_the_secret_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    file = tmp_path / "graphs.key"
    made = graph_secret(file)
    assert len(made) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert graph_secret(file) == made


def test_the_services_own_url() -> None:
    assert own_url("8080") == "http://127.0.0.1:8080"
    assert own_url("[::1]:80") == "http://[::1]:80"
    assert own_url("unix:/run/api") == own_url("fd://3") == "http://localhost"


# hosting.vm.info


@pytest.fixture
def vm(world: World) -> Vm:
    vm = world.vm("web1.example.net", cores=2, state="running")
    world.disk("system", vm_id=vm.id, position=0)
    world.disk("data", vm_id=vm.id, position=1)
    world.iface(vm_id=vm.id, num=0, state="used")
    return vm


def test_each_object_has_the_hour_and_the_day(world: World, vm: Vm) -> None:
    urls = world.call("hosting.vm.info", vm.id)["graph_urls"]
    assert {key: len(value) for key, value in urls.items()} == {"vcpu": 4, "vdi": 4, "vif": 2}
    read = {key: [world.services.links.read(token(url)) for url in value] for key, value in urls.items()}
    spans = [Span.HOUR, Span.DAY]
    assert read["vcpu"] == [Graph(vm.id, Kind.VCPU, number, span) for number in (0, 1) for span in spans]
    disks = world.call("hosting.vm.info", vm.id)["disks_id"]
    assert read["vdi"] == [Graph(vm.id, Kind.VDI, one, span) for one in disks for span in spans]
    (iface,) = world.call("hosting.vm.info", vm.id)["ifaces_id"]
    assert read["vif"] == [Graph(vm.id, Kind.VIF, iface, span) for span in spans]
    assert all(url.startswith(ROOT) for value in urls.values() for url in value)


def test_the_rest_of_the_record(world: World, vm: Vm) -> None:
    shown = world.call("hosting.vm.info", vm.id)
    assert shown["entity_id"] == "ALICE-GANDI"
    assert world.call("hosting.vm.list")[0]["entity_id"] == "ALICE-GANDI"
    for state, hvm_state in {"running": "running", "paused": "paused", "locked": "paused",
                             "halted": "unknown", "being_created": "unknown"}.items():  # fmt: skip
        world.change(vm, state=state)
        assert world.call("hosting.vm.info", vm.id)["hvm_state"] == hvm_state


def test_probes_are_steady_and_say_whether_there_are_samples(world: World, vm: Vm, clock: Clock) -> None:
    world.clock = clock
    shown = world.call("hosting.vm.info", vm.id)
    probes = shown["probes"]
    assert [one["device_type"] for one in probes] == ["cpu", "disk", "disk", "iface"]
    assert {one["status"] for one in probes} == {"inactive"}
    assert len({one["id"] for one in probes}) == 4
    assert probes[0]["date_created"] == shown["date_created"]
    disk, _ = shown["disks_id"]
    (iface,) = shown["ifaces_id"]
    world.statistics.add(
        (source, Point(END, 60, 1.0))
        for source in (
            Source(vm.id, "vcpu.time", 1, "used"),
            Source(vm.id, "vbd.bytes", disk, "read"),
            Source(vm.id, "vif.bytes", iface, "in"),
        )
    )
    again = world.call("hosting.vm.info", vm.id)["probes"]
    assert [one["status"] for one in again] == ["active", "active", "inactive", "active"]
    assert [{**one, "status": ""} for one in again] == [{**one, "status": ""} for one in probes]
    clock.now = END + 151
    later = world.call("hosting.vm.info", vm.id)["probes"]
    assert {one["status"] for one in later} == {"inactive"}


# pages


@pytest.fixture
def pages(world: World, links: Links, clock: Clock) -> Pages:
    return Pages(world.store, world.statistics, links, clock)


def test_a_page_is_drawn_for_its_token_only(world: World, vm: Vm, links: Links, pages: Pages) -> None:
    disk, _ = world.call("hosting.vm.info", vm.id)["disks_id"]
    good = token(links.url(Graph(vm.id, Kind.VDI, disk, Span.HOUR), ROOT))
    drawn = pages(good)
    assert drawn is not None
    assert "web1.example.net: disk system, last hour" in texts(drawn)
    for graph in (
        Graph(vm.id + 1, Kind.VCPU, 0, Span.HOUR),
        Graph(vm.id, Kind.VDI, 999, Span.HOUR),
        Graph(vm.id, Kind.VIF, 999, Span.HOUR),
    ):
        assert pages(token(links.url(graph, ROOT))) is None
    assert pages("A" * 40) is None
    world.change(vm, state="deleted")
    assert pages(good) is None


def test_any_name_can_be_drawn(world: World, vm: Vm, links: Links, pages: Pages) -> None:
    disk = world.disk("<script>&\x00\x1b\ud7ff" + "x" * 200, vm_id=vm.id, position=2)
    drawn = pages(token(links.url(Graph(vm.id, Kind.VDI, disk.id, Span.DAY), ROOT)))
    assert drawn is not None
    assert any("disk <script>&\ufffd\ufffd\ud7ffxxx" in one for one in texts(drawn))


# drawing


def texts(svg: bytes) -> list[str]:
    return [one.text or "" for one in etree.fromstring(svg).iter("{*}text")]


def hour(*runs: range, value: float = 1.0) -> list[Point]:
    return [Point(END - 3600 + 60 * minute, 60, value) for run in runs for minute in run]


DRAWN: list[Any] = [
    (
        Kind.VCPU,
        Span.HOUR,
        {"used": hour(range(1, 61), value=0.5)},
        "Processor, %",
        ["used"],
        ["0", "50", "100"],
    ),
    (
        Kind.VDI,
        Span.HOUR,
        {"read": hour(range(1, 61), value=4e6)},
        "Disk, MB/s",
        ["read", "written"],
        ["2", "4"],
    ),
    (
        Kind.VIF,
        Span.DAY,
        {"in": hour(range(1, 61), value=5e4)},
        "Network, kbit/s",
        ["received", "sent"],
        ["400"],
    ),
    (Kind.VIF, Span.HOUR, {}, "Network, kbit/s", ["received", "sent"], ["0", "1"]),
]


@pytest.mark.parametrize(("kind", "span", "lines", "unit", "legend", "levels"), DRAWN)
def test_a_graph_says_what_it_shows_and_is_complete_in_itself(
    kind: Kind, span: Span, lines: dict[str, list[Point]], unit: str, legend: list[str], levels: list[str]
) -> None:
    svg = draw(kind, span, "web1: it", lines, END)
    shown = texts(svg)
    assert f"web1: it, last {'hour' if span is Span.HOUR else 'day'}" in shown
    assert {unit, *legend, *levels} <= set(shown)
    times = {one for one in shown if re.fullmatch(r"\d\d:\d\d", one)}
    assert {"15:00", "15:20"} <= times if span is Span.HOUR else {"00:00", "12:00"} <= times
    assert any(one.endswith("2026, UTC") for one in shown)
    assert ("There are no samples of this time yet." in shown) == (not lines)
    root = etree.fromstring(svg)
    assert {etree.QName(one).localname for one in root.iter("*")}.isdisjoint({"script", "image", "use", "a"})
    assert not [
        name for one in root.iter("*") for name in one.attrib if "href" in name or name.startswith("on")
    ]
    assert not re.findall(rb"@import|url\(|javascript:|<!--|<\?xml-", svg)
    assert set(re.findall(rb'[a-z]+://[^"]+', svg)) == {
        b"http://www.w3.org/2000/svg",
        b"http://www.w3.org/1999/xlink",
    }


def test_there_is_a_gap_where_nothing_ran() -> None:
    def lines(*runs: range) -> int:
        svg = draw(Kind.VCPU, Span.HOUR, "it", {"used": hour(*runs)}, END)
        return len(
            [one for one in etree.fromstring(svg).iter("{*}path") if "line" in one.get("class", "").split()]
        )

    whole = lines(range(1, 61))
    assert lines(range(1, 20), range(40, 61)) == whole + 1
    assert lines(range(5, 10), range(20, 30), range(50, 51)) == whole + 2
