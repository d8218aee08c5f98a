"""What a client sees of accepted work, and taking it back."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from api.operations.jobs import Planned
from api.store.models import Claim, Disk, Iface, Ip, Job, Operation, Vlan, Vm, now
from tests.methods.world import ALICE, BOB, World

FIELDS = {
    "id": int,
    "type": str,
    "step": str,
    "vm_id": int | None,
    "disk_id": int | None,
    "iface_id": int | None,
    "ip_id": int | None,
    "vlan_id": int | None,
    "cert_id": int | None,
    "source": str,
    "session_id": int,
    "date_created": datetime,
    "date_updated": datetime,
    "date_start": datetime | None,
    "eta": int,
    "last_error": str | None,
    "errortype": str | None,
    "params": dict,
    "infos": dict,
}


def test_every_field_of_the_struct(world: World) -> None:
    (operation,) = world.job(Planned("vm_create", vm_id=7, eta=30))
    shown = world.call("operation.info", operation.id)
    assert set(shown) == set(FIELDS)
    for key, kind in FIELDS.items():
        assert isinstance(shown[key], kind), key
    assert (shown["step"], shown["vm_id"], shown["disk_id"], shown["eta"]) == ("WAIT", 7, None, 30)
    assert shown["source"] == "ALICE-GANDI"
    assert {"param_type", "remote_addr", "session_id", "tracker_id", "auth_id", "vm_id"} <= set(
        shown["params"]
    )
    assert shown["infos"] == {
        "extras": {},
        "id": "7",
        "label": "",
        "product_action": "create",
        "product_name": "vm",
        "product_type": "vm",
        "quantity": "1",
    }
    assert world.call("operation.list") == [shown]


def test_a_migration_names_its_product(world: World) -> None:
    (operation,) = world.job(Planned("hosting_migration_vm", vm_id=7))
    infos = world.call("operation.info", operation.id)["infos"]
    assert (infos["product_type"], infos["product_action"], infos["id"]) == ("vm", "migrate", "7")


@pytest.mark.parametrize(
    ("step", "elapsed", "eta"),
    [
        ("WAIT", None, 30),
        ("RUN", 0, 30),
        ("RUN", 10, 20),
        ("RUN", 90, 0),
        ("DONE", 10, 0),
        ("ERROR", 10, 0),
        ("CANCEL", None, 0),
    ],
)
def test_eta(world: World, step: str, elapsed: int | None, eta: int) -> None:
    (operation,) = world.job(Planned("vm_start", eta=30))
    start = None if elapsed is None else now() - timedelta(seconds=elapsed)
    world.change(operation, step=step, date_start=start)
    assert abs(world.call("operation.info", operation.id)["eta"] - eta) <= (1 if step == "RUN" else 0)


@pytest.fixture
def many(world: World) -> World:
    """Six operations of Alice's, one of Bob's."""
    disk = world.disk("data")
    world.job(
        Planned("disk_create", disk_id=disk.id),
        Planned("iface_create", iface_id=3),
        Planned("vm_create", vm_id=1),
    )
    world.job(Planned("vm_stop", vm_id=1))
    (running,) = world.job(Planned("hosting_migration_vm", vm_id=1, params={"inner_step": "wait_finalize"}))
    world.change(running, step="RUN")
    (done,) = world.job(Planned("ip_update", ip_id=9))
    world.change(done, step="DONE")
    world.job(Planned("vm_stop", vm_id=1), key=BOB)
    with world.store.writing() as session:
        session.execute(update(Operation).values(date_created=now()))  # of one second, whatever the clock did
    return world


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"step": "RUN"}, [5]),
        ({"step": ["BILL", "WAIT", "RUN"]}, [1, 2, 3, 4, 5]),
        ({"step": "FLY"}, []),
        ({"step": ["FLY", "DONE"]}, [6]),
        ({"step": []}, []),
        ({"type": "vm_stop"}, [4]),
        ({"vm_id": 1}, [3, 4, 5]),
        ({"vm_id": [1, 2]}, [3, 4, 5]),
        ({"type": "hosting_migration_vm", "step": "RUN", "vm_id": 1}, [5]),
        ({"disk_id": 1}, [1]),
        ({"disk.name": "data"}, [1]),
        ({"disk.name": "other"}, []),
        ({"iface_id": 3}, [2]),
        ({"ip_id": 9}, [6]),
        ({"id": 4}, [4]),
        ({"id": [4, 7]}, [4]),
        ({"source": "ALICE-GANDI"}, [1, 2, 3, 4, 5, 6]),
        ({"cert_id": 1}, []),
        ({"cert.hostname": "example.com"}, []),
        ({"contact_id": 1}, []),
        ({"domain": "example.com"}, []),
        ({"mbox_id": 1}, []),
        ({"site_id": [1]}, []),
        ({"site_id": None}, [1, 2, 3, 4, 5, 6]),
        ({"sort_by": "date_created DESC", "items_per_page": 100}, [1, 2, 3, 4, 5, 6]),
        ({"sort_by": "id DESC", "items_per_page": 2, "page": 1}, [4, 3]),
        ({"sort_by": "disk.name DESC", "items_per_page": 1}, [1]),
    ],
)
def test_filters(many: World, options: dict[str, Any], ids: list[int]) -> None:
    assert [one["id"] for one in many.call("operation.list", options)] == ids
    filters = {
        key: value for key, value in options.items() if key not in ("sort_by", "items_per_page", "page")
    }
    if filters == options:
        assert many.call("operation.count", filters) == len(ids)


def test_params_carry_what_was_planned(many: World) -> None:
    (found,) = many.call("operation.list", {"type": "hosting_migration_vm"})
    assert found["params"]["inner_step"] == "wait_finalize"


class TestCancel:
    """``operation.cancel``."""

    def creation(self, world: World) -> tuple[Vm, list[Operation]]:
        """An accepted creation of a VM with a disk and an interface."""
        vm = world.vm(state="being_created")
        disk = world.disk("sys", state="being_created", vm_id=vm.id, position=0)
        iface = world.iface(addresses=("192.0.2.5", "2001:db8::5"), state="being_created", vm_id=vm.id, num=0)
        operations = world.job(
            Planned("disk_create", disk_id=disk.id),
            Planned("iface_create", iface_id=iface.id),
            Planned("vm_create", vm_id=vm.id),
            claims=(f"vm:{vm.id}", f"disk:{disk.id}", f"iface:{iface.id}"),
        )
        world.wakes.clear()
        return vm, operations

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_all_of_a_creation_vanishes(self, world: World, position: int) -> None:
        _, operations = self.creation(world)
        assert world.call("operation.cancel", operations[position].id) is True
        assert [one["step"] for one in world.call("operation.list")] == ["CANCEL"] * 3
        with world.store.reading() as session:
            for model in (Vm, Disk, Iface, Ip, Claim):
                assert session.scalars(select(model)).all() == [], model
            assert len(session.scalars(select(Job)).all()) == 1
        assert len(world.wakes) == 1

    def test_what_there_was_before_stays_free(self, world: World) -> None:
        vm = world.vm(state="being_created")
        disk = world.disk("sys", vm_id=vm.id, position=0, access="read")
        used = world.iface(addresses=("192.0.2.5",), state="used", vm_id=vm.id, num=0)
        coming = world.iface(addresses=("192.0.2.6",), state="being_created", vm_id=vm.id, num=1)
        (operation,) = world.job(Planned("vm_create", vm_id=vm.id))
        world.call("operation.cancel", operation.id)
        assert world.get(Vm, vm.id) is None
        kept = world.get(Disk, disk.id)
        assert (kept.vm_id, kept.position, kept.access, kept.state) == (None, None, "read/write", "created")
        freed, created = world.get(Iface, used.id), world.get(Iface, coming.id)
        assert (freed.vm_id, freed.num, freed.state) == (None, None, "free")
        assert (created.vm_id, created.num, created.state) == (None, None, "being_created")

    def test_work_on_existing_objects_changes_none(self, world: World) -> None:
        vm = world.vm(state="running")
        (operation,) = world.job(Planned("vm_stop", vm_id=vm.id))
        world.call("operation.cancel", operation.id)
        assert world.get(Vm, vm.id).state == "running"

    def test_an_object_made_meanwhile_stays(self, world: World) -> None:
        disk = world.disk("data")
        (operation,) = world.job(Planned("disk_create", disk_id=disk.id))
        world.call("operation.cancel", operation.id)
        assert world.get(Disk, disk.id) is not None

    def test_a_network_vanishes_only_without_interfaces(self, world: World) -> None:
        vlan = world.vlan("lan", state="being_created")
        (operation,) = world.job(Planned("vlan_create", params={"vlan_id": vlan.id}))
        iface = world.iface(vlan_id=vlan.id)
        assert world.fault("operation.cancel", operation.id).code == 510290
        assert world.call("operation.info", operation.id)["step"] == "WAIT"
        with world.store.writing() as session:
            session.delete(session.get_one(Iface, iface.id))
        assert world.call("operation.cancel", operation.id) is True
        assert world.get(Vlan, vlan.id) is None

    @pytest.mark.parametrize("step", ["RUN", "DONE", "ERROR", "CANCEL", "SUPPORT"])
    def test_one_begun_operation_keeps_all(self, world: World, step: str) -> None:
        vm, operations = self.creation(world)
        world.change(operations[0], step=step)
        fault = world.fault("operation.cancel", operations[2].id)
        assert fault.code == 510290
        assert f"it is in step {step}" in fault.text
        assert world.call("operation.info", operations[2].id)["step"] == "WAIT"
        assert world.get(Vm, vm.id) is not None
        assert world.wakes == []

    def test_a_job_that_was_taken_up(self, world: World) -> None:
        _, operations = self.creation(world)
        world.change(world.get(Job, operations[0].job_id), started=True)
        assert world.fault("operation.cancel", operations[0].id).code == 510290

    def test_twice(self, world: World) -> None:
        (operation,) = world.job(Planned("vm_stop"))
        assert world.call("operation.cancel", operation.id) is True
        assert world.fault("operation.cancel", operation.id).code == 510290

    def test_ids_are_not_given_again(self, world: World) -> None:
        vm, operations = self.creation(world)
        world.call("operation.cancel", operations[0].id)
        assert world.vm().id > vm.id


def test_relaunch_is_for_domains_only(world: World) -> None:
    assert world.fault("operation.relaunch", 1).code == 1


def test_bobs_operations_are_none_of_alices(many: World) -> None:
    assert many.call("operation.count", key=BOB) == 1
    assert many.fault("operation.info", 7, key=ALICE).code == 510242
