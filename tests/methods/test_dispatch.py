"""From a name and arguments to an answer: keys, aliases, argument counts, dry runs."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import select

from api.methods import table
from api.methods.faults import Fault
from api.store.keys import digest
from api.store.models import ApiKey, SshKey, now
from tests.methods.world import ALICE, BOB, REVOKED, UNKNOWN, World

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


@pytest.mark.parametrize(
    "key", [None, 1, True, 1.5, b"a" * 24, [ALICE], {"key": ALICE}, datetime.fromisoformat("2020-01-01")]
)
def test_key_of_another_type(world: World, key: Any) -> None:
    assert world.fault("hosting.datacenter.list", key=key).code == 501210


@pytest.mark.parametrize("key", ["", "short", ALICE.upper(), ALICE + "0", ALICE + "\n", " " + ALICE[1:]])
def test_malformed_key(world: World, key: str) -> None:
    fault = world.fault("hosting.datacenter.list", key=key)
    assert fault.code == 501237
    assert fault.text.startswith("Error on object : OBJECT_STRING (CAUSE_BADPARAMETER) [")


def test_unknown_and_revoked_key_are_one_fault(world: World) -> None:
    unknown, revoked = (world.fault("hosting.datacenter.list", key=key) for key in (UNKNOWN, REVOKED))
    assert unknown.code == 510150
    assert unknown.text == "Error on object : OBJECT_ACCOUNT (CAUSE_NORIGHT) [Invalid API key]"
    assert (unknown.code, unknown.text, unknown.fields) == (revoked.code, revoked.text, revoked.fields)


def test_revocation_counts_at_once(world: World) -> None:
    assert world.call("hosting.datacenter.list", key=BOB)
    with world.store.writing() as session:
        key = session.scalars(select(ApiKey).where(ApiKey.digest == digest(BOB))).one()
        key.date_revoked = now()
    assert world.fault("hosting.datacenter.list", key=BOB).code == 510150


def test_no_key_at_all(world: World) -> None:
    with pytest.raises(Fault) as caught:
        world.dispatch("hosting.datacenter.list", [], "192.0.2.1")
    assert caught.value.code == 501637


@pytest.mark.parametrize("key", [ALICE, UNKNOWN, "", None, 3])
def test_version_does_not_check_the_key(world: World, key: Any) -> None:
    assert world.call("version.info", key=key) == {"api_version": "3.3.42"}


@pytest.mark.parametrize(
    "name", ["", "hosting", "hosting.vm.fly", "domain.list", "HOSTING.VM.LIST", "version.info\n", "info"]
)
def test_unknown_method(world: World, name: str) -> None:
    fault = world.fault(name)
    assert (fault.code, fault.text) == (1, f'Method "{name}" is not supported')


def test_unknown_method_with_a_wrong_key_says_the_same(world: World) -> None:
    assert world.fault("operation.relaunch", 1, key=UNKNOWN).code == 1


@pytest.mark.parametrize("entry", [one for one in table.every() if one.aliases], ids=lambda one: one.name)
def test_names_under_hosting_are_served_without_it(entry: table.Method) -> None:
    assert entry.aliases == (entry.name.removeprefix("hosting."),)
    assert table.lookup(entry.aliases[0]) is entry


def test_can_migrate_has_no_alias() -> None:
    assert "vm.can_migrate" not in table.names()


@pytest.mark.parametrize("arguments", [(), (1, 2), (1, {}, None)])
def test_wrong_number_of_arguments(world: World, arguments: tuple[Any, ...]) -> None:
    fault = world.fault("hosting.ip.info", *arguments)
    assert fault.code == 501637
    assert f"takes 1 argument after the API key, not {len(arguments)}" in fault.text


@pytest.mark.parametrize("arguments", [(), (None,), ({},)])
def test_options_are_optional(world: World, arguments: tuple[Any, ...]) -> None:
    assert len(world.call("hosting.datacenter.list", *arguments)) == 3


def test_mandatory_argument_is_not_nil(world: World) -> None:
    fault = world.fault("hosting.ip.info", None)
    assert (fault.code, fault.fields) == (501010, ("ip_id",))
    assert "ip_id" in fault.text


class TestDryRun:
    """``--dry-run`` in a struct: the checks alone."""

    def test_nothing_is_kept(self, world: World) -> None:
        spec = {"name": "laptop", "value": KEY, "--dry-run": True}
        assert world.call("hosting.ssh.create", spec) == []
        assert world.call("hosting.ssh.list") == []

    def test_no_operation_is_accepted(self, world: World) -> None:
        iface = world.iface(addresses=("192.0.2.5",))
        ip = world.call("hosting.ip.list", {"iface_id": iface.id})[0]
        assert world.call("hosting.ip.update", ip["id"], {"reverse": "a.example", "--dry-run": True}) == []
        assert world.call("operation.count") == 0
        assert world.wakes == []
        assert world.call("hosting.ip.info", ip["id"])["reverse"] == ""

    def test_every_wrong_key_is_told(self, world: World) -> None:
        told = world.call("hosting.ssh.create", {"name": 3, "extra": 1, "--dry-run": True})
        assert {tuple(one["attr"]): one["error"] for one in told} == {
            ("key_spec", "name"): 501210,
            ("key_spec", "value"): 501537,
            ("key_spec", "extra"): 501537,
        }
        assert all(one["reason"].startswith("Error on object : ") for one in told)

    def test_what_the_records_forbid_is_told(self, world: World) -> None:
        world.call("hosting.ssh.create", {"name": "laptop", "value": KEY})
        told = world.call("hosting.ssh.create", {"name": "laptop", "value": KEY, "--dry-run": True})
        assert [one["error"] for one in told] == [501741]

    def test_without_the_wish_the_call_is_done(self, world: World) -> None:
        world.call("hosting.ssh.create", {"name": "laptop", "value": KEY, "--dry-run": False})
        assert world.get(SshKey, 1).name == "laptop"

    def test_a_wrong_key_is_still_refused(self, world: World) -> None:
        assert world.fault("hosting.ssh.create", {"--dry-run": True}, key=UNKNOWN).code == 510150
