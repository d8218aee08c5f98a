"""Keys that expire and keys that only read, beside what the matrix tries with every method."""

from datetime import timedelta

from sqlalchemy import event, select

from api.methods import console
from api.store.keys import digest
from api.store.models import ApiKey, now
from tests.methods.world import ALICE, BOB, EXPIRED, READER, UNKNOWN, World


def key_of(world: World, key: str) -> ApiKey:
    """The record of the key."""
    with world.store.reading() as session:
        return session.scalars(select(ApiKey).where(ApiKey.digest == digest(key))).one()


def test_expiry_counts_from_its_second_on(world: World) -> None:
    record = key_of(world, BOB)
    world.change(record, date_expires=now() + timedelta(hours=1))
    assert world.call("hosting.vm.list", key=BOB) == []
    world.change(record, date_expires=now())
    expired, unknown = (world.fault("hosting.vm.list", key=key) for key in (BOB, UNKNOWN))
    assert (expired.code, expired.text, expired.fields) == (unknown.code, unknown.text, unknown.fields)
    world.change(record, date_expires=None)
    assert world.call("hosting.vm.list", key=BOB) == []


def test_a_key_is_looked_up_by_one_question(world: World) -> None:
    asked: list[str] = []

    def hear(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("SELECT"):
            asked.append(statement)

    event.listen(world.store.engine, "before_cursor_execute", hear)
    # it has no other question
    world.call("hosting.metric.available", key=READER)
    assert len(asked) == 1
    assert "api_key" in asked[0]


def test_the_refusal_names_the_method_and_is_no_unknown_key(world: World) -> None:
    fault = world.fault("hosting.vlan.create", {"name": "lan", "datacenter_id": 1}, key=READER)
    assert fault.code == 501650
    assert fault.text == (
        "Error on object : OBJECT_METHOD (CAUSE_NORIGHT) [hosting.vlan.create changes something, and the API "
        "key is read-only]"
    )


def test_a_dry_run_is_refused_as_well(world: World) -> None:
    spec = {"name": "lan", "datacenter_id": 1, "--dry-run": True}
    assert world.fault("hosting.vlan.create", spec, key=READER).code == 501650
    # and so is one that would find the call wrong
    assert world.fault("vlan.create", {"--dry-run": True}, key=READER).code == 501650


def test_a_console_is_opened_by_keys_that_may_do_everything(world: World) -> None:
    vm = world.vm(state="running", console=True)
    world.iface(addresses=("192.0.2.5",), vm_id=vm.id, num=0)
    opened = {
        key: console.with_api_key(world.services, "192.0.2.5", key)
        for key in (ALICE, READER, EXPIRED, BOB, UNKNOWN)
    }
    assert [key for key, seen in opened.items() if seen is not None] == [ALICE]
