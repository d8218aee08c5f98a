"""Who may do what: every method, every place in its arguments, every object of another account.

What is said of somebody else's object is byte for byte, headers included, what is said of one that never
existed. The places come from the methods' schemas: a method that is new is tried without being named here.
"""

import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import event, select
from werkzeug.test import Client

from api.methods import table
from api.methods.ids import SHARED
from api.methods.table import Method
from api.operations.jobs import Planned
from api.store.models import Image, Record
from api.wire.application import Application
from tests.methods.neighbour import NEVER, Neighbour, neighbour
from tests.methods.places import Place, arguments, places
from tests.methods.world import ALICE, BOB, EXPIRED, READER, REVOKED, UNKNOWN, World

METHODS = [entry for entry in table.every() if entry.takes_key]
NOTFOUND = 42
_SHOWN = 20

Answer = tuple[int, list[tuple[str, str]], bytes]
"""Status, headers, body."""


class Wire:
    """Calls as HTTP carries them."""

    def __init__(self, world: World) -> None:
        self._client = Client(Application(world.dispatch))

    def __call__(self, entry: Method, given: list[Any], key: str = ALICE) -> Answer:
        while given and given[-1] is None:
            given = given[:-1]
        body = xmlrpc.client.dumps((key, *given), entry.name, allow_none=True)
        answer = self._client.post("/xmlrpc/", data=body, headers={"Accept-Encoding": "gzip"})
        return answer.status_code, sorted(answer.headers.items()), answer.data


@pytest.fixture
def statements(world: World) -> Iterator[list[str]]:
    """What the database is asked."""
    heard: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        heard.append(statement)

    event.listen(world.store.engine, "before_cursor_execute", hear)
    yield heard
    event.remove(world.store.engine, "before_cursor_execute", hear)


def is_write(statement: str) -> bool:
    """Whether the statement takes the write lock, or needs it."""
    return not statement.startswith(("SELECT", "BEGIN DEFERRED"))


@dataclass(frozen=True)
class Cell:
    """A call with what is somebody else's, and the same one with what never existed."""

    entry: Method
    place: str
    his: dict[Place, Any]
    none: dict[Place, Any]
    words: dict[str, str]
    refused: bool

    def __str__(self) -> str:
        return f"{self.entry.name} {self.place} {list(self.words)}"


def test_somebody_elses_object_is_one_that_never_existed(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    bob, call = neighbour(world), Wire(world)
    before, said = rows(world), dict[str, Answer]()
    open_, count = [], 0
    for cell in cells(bob):
        dry_run = cell.entry.changes and not cell.refused
        none = arguments(cell.entry, bob.own, cell.none, dry_run)
        if repr((cell.entry.name, none)) not in said:
            said[repr((cell.entry.name, none))] = call(cell.entry, none)
        expected = said[repr((cell.entry.name, none))]
        his = call(cell.entry, arguments(cell.entry, bob.own, cell.his, dry_run))
        count += 1
        if swapped(his, cell.words) != expected:
            open_.append(f"{cell}:\n  {his}\n  {expected}")
        elif cell.refused and not is_not_found(expected):
            open_.append(f"{cell}: the fault is none of NOTFOUND: {expected[2]!r}")
    with capsys.disabled():
        print(f"\naccount matrix: {len(METHODS)} methods, {count} cells, {len(open_)} open")
    assert not open_, "\n".join(open_[:9])
    assert rows(world) == before, "a refused call changed something"
    assert count > 2000


def cells(bob: Neighbour) -> Iterator[Cell]:
    """All of them."""
    for entry in METHODS:
        found = places(entry)
        for place in found:
            if place.type == "integer":
                yield from _of_ids(entry, place, bob)
            else:
                for name, none in bob.names.items():
                    # a fault shortens what is long
                    words = {name[:_SHOWN]: none[:_SHOWN]}
                    yield _cell(entry, place, name, none, words, refused=False)
        ids = [place for place in found if is_owned(place)]
        for belonging in bob.sets if ids else ():
            yield Cell(
                entry,
                "all ids",
                {place: _in(place, belonging[str(place.kind)]) for place in ids},
                {place: _in(place, NEVER) for place in ids},
                {str(belonging[str(place.kind)]): str(NEVER) for place in ids},
                refused=True,
            )


def _of_ids(entry: Method, place: Place, bob: Neighbour) -> Iterator[Cell]:
    for one in bob.tried(place.kind):
        words = {str(one): str(NEVER)}
        yield _cell(entry, place, one, NEVER, words, refused=is_owned(place))
        if place.many and is_owned(place):
            mine = bob.own[str(place.kind)]
            his, none = {place: [mine, one]}, {place: [mine, NEVER]}
            yield Cell(entry, f"{place} beside one's own", his, none, words, refused=True)


def _cell(entry: Method, place: Place, his: Any, none: Any, words: dict[str, str], refused: bool) -> Cell:
    return Cell(entry, str(place), {place: _in(place, his)}, {place: _in(place, none)}, words, refused)


def _in(place: Place, value: Any) -> Any:
    return [value] if place.many else value


def is_owned(place: Place) -> bool:
    """Whether it takes the id of something that has an owner."""
    return place.kind is not None and place.kind not in SHARED


def is_not_found(answer: Answer) -> bool:
    """Whether the answer is such a fault, about the id that never was."""
    try:
        xmlrpc.client.loads(answer[2])
    except xmlrpc.client.Fault as fault:
        return fault.faultCode % 100 == NOTFOUND and str(NEVER) in fault.faultString
    return False


def swapped(answer: Answer, words: dict[str, str]) -> Answer:
    """The answer, with what never existed in the place of what is somebody else's."""
    status, headers, body = answer
    for his, none in words.items():
        body = body.replace(his.encode(), none.encode())
    return status, headers, body


def rows(world: World) -> dict[str, list[Any]]:
    """Everything in the records."""
    with world.store.reading() as session:
        return {
            name: [tuple(row) for row in session.execute(select(kept))]
            for name, kept in Record.metadata.tables.items()
        }


@pytest.mark.parametrize("entry", METHODS, ids=lambda one: one.name)
def test_ids_are_declared(entry: Method) -> None:
    for place in places(entry):
        named = len(place.path) == 1 or (entry.changes and str(place).endswith("_id"))
        if place.type == "integer" and named:
            assert place.kind is not None, f"{place}: take its type from api.methods.ids"


def test_a_key_that_is_not_good_is_one_that_never_existed(world: World) -> None:
    bob, call = neighbour(world), Wire(world)
    for entry in METHODS:
        if entry.checks_key:
            given = arguments(entry, bob.own, {}, dry_run=False)
            unknown = call(entry, given, UNKNOWN)
            assert b"[Invalid API key]" in unknown[2]
            assert call(entry, given, REVOKED) == call(entry, given, EXPIRED) == unknown, entry.name


def test_a_read_only_key_changes_nothing(world: World) -> None:
    bob, call = neighbour(world), Wire(world)
    before = rows(world)
    for entry in METHODS:
        for dry_run in (True, False):
            given = arguments(entry, bob.own, {}, dry_run)
            answer = call(entry, given, READER)
            if entry.changes:
                text = f"{entry.name} changes something, and the API key is read-only"
                assert text.encode() in answer[2]
                assert b"<int>501650</int>" in answer[2]
            else:
                assert answer == call(entry, given), entry.name
    assert rows(world) == before


def test_what_is_declared_to_change_nothing_only_reads(world: World, statements: list[str]) -> None:
    bob, call = neighbour(world), Wire(world)
    for entry in METHODS:
        statements.clear()
        call(entry, arguments(entry, bob.own, {}, dry_run=False))
        assert entry.changes == any(is_write(one) for one in statements), (entry.name, statements)


def test_nobody_sees_what_others_make(world: World) -> None:
    bob, call = neighbour(world), Wire(world)
    disk = world.get(Image, bob.own["image"]).disk_id
    shared = {"image": bob.own["image"], "datacenter": 1}
    asked = [
        (entry, arguments(entry, own, {}, dry_run=False))
        for own in (bob.sets[0] | shared, bob.sets[1] | shared | {"disk": disk})
        for entry in METHODS
        # the one exception: how many addresses the datacenters have left is said to everybody
        if not entry.changes and entry.name != "hosting.account.info"
    ]
    before = [call(entry, given, BOB) for entry, given in asked]
    vm = world.vm("new", ALICE)
    world.disk("copy", ALICE, source_id=disk)
    world.disk("snap", ALICE, type="snapshot", source_id=disk)
    world.disk("data", ALICE, vm_id=vm.id, position=0)
    world.iface(ALICE, ("192.0.2.4", "2001:db8::4"), vm_id=vm.id, num=0)
    world.vlan("new", ALICE)
    world.job(Planned("vm_stop", vm_id=vm.id), key=ALICE)
    for (entry, given), then in zip(asked, before, strict=True):
        assert call(entry, given, BOB) == then, (entry.name, given)
