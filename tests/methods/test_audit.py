"""Who changed what, from where, and how it ended; and no secret, wherever a caller puts one."""

import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.methods.audit import Audit
from api.methods.dispatch import Dispatcher
from api.methods.faults import Fault
from api.methods.table import Method, every, lookup
from api.store.journal import Journal
from tests.methods.world import ALICE, BOB, READER, REVOKED, World

SECRET = "zqx7canary!Kwv"
PIECES = {SECRET[at : at + 6] for at in range(len(SECRET) - 5)}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl " + SECRET


@dataclasses.dataclass
class Audited:
    """A world whose calls are recorded in `file`."""

    world: World
    file: Path

    def lines(self) -> list[dict[str, Any]]:
        """What was recorded."""
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def last(self) -> dict[str, Any]:
        """The last line, without what differs each time."""
        line = self.lines()[-1]
        assert line.pop("time").endswith("Z")
        assert line.pop("request")
        return line


@pytest.fixture
def audited(world: World, tmp_path: Path) -> Iterator[Audited]:
    """The world, with an audit log."""
    file = tmp_path / "audit.log"
    journal = Journal(file)
    world.services = dataclasses.replace(world.services, audit=Audit(journal))
    world.dispatch = Dispatcher(world.services)
    yield Audited(world, file)
    journal.close()


def test_a_change_is_told_with_what_came_of_it(audited: Audited) -> None:
    world = audited.world
    key = world.call("ssh.create", {"name": "laptop", "value": KEY})
    assert audited.last() == {
        "event": "call", "from": "192.0.2.1", "account": "ALICE-GANDI", "key": {"id": 1, "label": ""},
        "method": "hosting.ssh.create", "ids": {"key": [key["id"]]}, "operations": [], "result": "ok",
    }  # fmt: skip
    image = world.image("Tiny")
    operations = world.call(
        "hosting.vm.create_from",
        {
            "datacenter_id": 1, "hostname": "web", "keys": [key["id"]], "ssh_key": KEY, "password": SECRET,
            "run": SECRET, "script": SECRET, "script_args": SECRET, "login": "max",
        },
        {"datacenter_id": 1, "name": "sys"},
        image.disk_id,
    )  # fmt: skip
    made = operations[-1]
    line = audited.last()
    assert line["operations"] == [one["id"] for one in operations]
    assert line["ids"] == {
        "datacenter": [1],
        "disk": sorted({image.disk_id, *(one["disk_id"] for one in operations if one["disk_id"])}),
        "iface": sorted({one["iface_id"] for one in operations if one["iface_id"]}),
        "ip": sorted({one["ip_id"] for one in operations if one["ip_id"]}),
        "key": [key["id"]],
        "vm": [made["vm_id"]],
    }
    assert (line["method"], line["result"]) == ("hosting.vm.create_from", "ok")
    assert SECRET not in audited.file.read_text()


def test_a_refused_change_is_told_with_its_fault(audited: Audited) -> None:
    fault = audited.world.fault("vm.delete", 77, key=BOB)
    assert audited.last() == {
        "event": "call", "from": "192.0.2.1", "account": "BOB-GANDI", "key": {"id": 2, "label": ""},
        "method": "hosting.vm.delete", "ids": {"vm": [77]}, "operations": [],
        "result": "fault", "code": fault.code, "fault": fault.text,
    }  # fmt: skip
    fault = audited.world.fault("vm.delete", 77, key=READER)
    assert (audited.last()["account"], audited.last()["fault"]) == ("ALICE-GANDI", fault.text)


def test_reading_and_dry_runs_make_no_lines(audited: Audited) -> None:
    world = audited.world
    world.call("hosting.vm.list")
    world.fault("hosting.vm.info", 77)
    assert world.call("hosting.iface.create", {"datacenter_id": 1, "ip_version": 4, "--dry-run": True}) == []
    world.call("version.info")
    assert audited.lines() == []


@pytest.mark.parametrize("key", [REVOKED, "x" * 24, SECRET, "", 7, None])
def test_every_refused_key_is_told_but_not_itself(audited: Audited, key: Any) -> None:
    with pytest.raises(Fault) as caught:
        audited.world.dispatch("hosting.vm.info", [key, 5], "203.0.113.9")
    line = audited.last()
    assert (line["from"], line["account"], line["key"]) == ("203.0.113.9", None, None)
    assert (line["method"], line["code"]) == ("hosting.vm.info", caught.value.code)
    assert line["ids"] == {"vm": [5]}
    assert not isinstance(key, str) or not key or key not in audited.file.read_text()


def test_a_call_without_a_key_is_told(audited: Audited) -> None:
    with pytest.raises(Fault):
        audited.world.dispatch("hosting.vm.list", [], "203.0.113.9")
    assert audited.last()["result"] == "fault"


def test_a_defect_is_told(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    method = lookup("hosting.vm.delete")
    assert method is not None

    def broken(*_arguments: Any) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(
        "api.methods.dispatch.lookup", lambda _name: dataclasses.replace(method, function=broken)
    )
    with pytest.raises(RuntimeError):
        audited.world.dispatch("hosting.vm.delete", [ALICE, 5], "192.0.2.1")
    assert (audited.last()["code"], audited.last()["ids"]) == (150000, {"vm": [5]})
    assert SECRET not in audited.file.read_text()


def test_a_log_that_cannot_be_written_keeps_no_call_from_its_answer(
    audited: Audited, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: Journal, _line: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    with caplog.at_level(logging.ERROR):
        audited.world.call("hosting.iface.create", {"datacenter_id": 1, "ip_version": 4})
    assert "No space left on device" in caplog.text
    assert '"hosting.iface.create"' in caplog.text


def test_without_a_journal_nothing_is_written(world: World) -> None:
    assert world.call("hosting.iface.create", {"datacenter_id": 1, "ip_version": 4})["type"] == "iface_create"


# secrets in every place of every method


def example(schema: dict[str, Any], definitions: dict[str, Any]) -> Any:
    """A value of the type, with the secret as each of its texts."""
    if "$ref" in schema:
        return example(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    if "anyOf" in schema:
        return example(schema["anyOf"][0], definitions)
    match schema.get("type"):
        case "integer":
            return 1
        case "number":
            return 1.0
        case "boolean":
            return True
        case "array":
            return [example(schema.get("items", {}), definitions)]
        case "object":
            members = schema.get("properties", {}).items()
            return {name: example(inner, definitions) for name, inner in members}
        case _:
            return SECRET


def spoiled(value: Any) -> Iterator[Any]:
    """`value` with the secret in place of each part of it, and with members that nobody knows."""
    yield SECRET
    if isinstance(value, dict):
        yield {**value, SECRET: 1}
        yield {**value, "unknown": SECRET}
        yield {**value, f"a{SECRET}": {"b": SECRET}}
        yield {}
        for name, inner in value.items():
            yield {other: one for other, one in value.items() if other != name}
            yield {name: inner}
            for worse in spoiled(inner):
                yield {**value, name: worse}
    if isinstance(value, list):
        yield [*value, SECRET]
        yield {SECRET: SECRET}
        for worse in spoiled(value[0]):
            yield [worse]


def calls(method: Method) -> Iterator[list[Any]]:
    """Arguments, the key left out."""
    good = []
    for parameter in method.parameters:
        schema = parameter.adapter.json_schema(by_alias=True)
        good.append(example(schema, schema.get("$defs", {})))
    yield good
    yield [*good, SECRET]
    for place, value in enumerate(good):
        for worse in spoiled(value):
            yield [*good[:place], worse, *good[place + 1 :]]


def test_no_secret_gets_into_the_log_wherever_it_is(audited: Audited) -> None:
    world = audited.world
    # something for the ids to lead to, so that later checks are reached
    for state in ("running", "halted"):
        vm = world.vm(state=state)
        world.disk("sys", vm_id=vm.id, position=0)
        world.iface(vm_id=vm.id, num=0, state="used")
    world.vlan("lan")
    methods = [one for one in every() if one.changes]
    assert len(methods) > 25
    told, quoted = 0, 0
    for method in methods:
        for arguments in calls(method):
            for key in (ALICE, SECRET):
                try:
                    world.dispatch(method.name, [key, *arguments], "192.0.2.1")
                except Fault as fault:
                    quoted += any(piece in fault.text for piece in PIECES)
                told += 1
    written = audited.file.read_text()
    assert len(audited.lines()) == told
    # callers are told what they sent, so this had something to keep out
    assert quoted > 20
    assert not [piece for piece in PIECES if piece in written]
