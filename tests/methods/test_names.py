"""What the names of volumes and the labels of reservations tell, and what notes do."""

import json
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.operations import notes
from api.operations.disk import Named, named, volume_name
from api.operations.iface import labelled
from api.store.models import Disk, Vm
from hypervisor.network import Reservation
from tests.methods.world import World

ids = st.integers(1, 2**31 - 1)


@given(ids, ids, st.none() | ids, st.booleans())
def test_a_volumes_name_tells_its_disk(disk: int, account: int, source: int | None, snapshot: bool) -> None:
    kind = "snapshot" if snapshot and source else "data"
    record = Disk(id=disk, account_id=account, source_id=source, type=kind)
    name = volume_name(record)
    assert named(name) == Named(disk, account, source, kind == "snapshot")
    assert len(name) <= 64
    assert name != volume_name(record)


def test_a_name_of_an_earlier_version_tells_the_disk_alone() -> None:
    assert named("disk-12-0badcafe.qcow2") == Named(12, None, None, False)


@pytest.mark.parametrize(
    "name",
    ["disk-0.qcow2", "disk-12-0badcafe", "disk-12-0badcafe.qcow2.bak", "mine.qcow2", "disk-x-0badcafe.qcow2",
     "image-0badcafe.qcow2", "disk-12-3.q4.0badcafe.qcow2"],
)  # fmt: skip
def test_other_volumes(name: str) -> None:
    assert named(name) is None


@pytest.mark.parametrize(("label", "ids"), [(None, None), ("12.3", (12, 3)), ("12", None), ("a.b", None)])
def test_a_reservations_label_tells_its_interface(label: str | None, ids: tuple[int, int] | None) -> None:
    assert labelled(Reservation("52:54:00:00:00:01", IPv4Address("10.0.0.2"), label=label)) == ids


def test_notes_differ_when_a_record_does(world: World) -> None:
    vm = world.vm()
    disk = world.disk('"last":{"date_updated":"', vm_id=vm.id, position=0)
    first = _compose(world, vm.id)
    world.disk("another one")
    assert notes.same(first, _compose(world, vm.id))
    assert first != _compose(world, vm.id)
    with world.store.writing() as session:
        session.get_one(Disk, disk.id).name = '"last":{"date_updated":"x'
    assert not notes.same(first, _compose(world, vm.id))


def test_notes_hold_no_password(world: World) -> None:
    vm = world.vm()
    with world.store.writing() as session:
        session.get_one(Vm, vm.id).seed = {"password_hash": "$6$secret", "login": "alice"}
    text = _compose(world, vm.id)
    assert "secret" not in text
    assert text.isascii()
    assert json.loads(text) == notes.read(text)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version":2}', "{"])
def test_notes_that_are_none(text: str) -> None:
    assert notes.read(text) is None


def _compose(world: World, vm_id: int) -> str:
    with world.store.reading() as session:
        return notes.compose(session, session.get_one(Vm, vm_id))
