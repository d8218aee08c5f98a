"""What is being migrated: no other call may change it, and the migration can be taken back."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from api.operations.backend import Backend
from api.operations.console import Consoles
from api.operations.hosts import Hosts
from api.operations.jobs import Planned
from api.operations.migration.vm import depart
from api.operations.run import OperationFailed
from api.operations.schedule import Schedules
from api.settings import MigrationSettings, Patience, Settings
from api.store.models import Claim, Disk, Iface, Job, Operation, Vm, now
from tests.methods.world import World

THERE = 2
NOT_CANCELLABLE = 510290


class Moving:
    """A VM that is to be migrated, and what there is beside it. `halted` decides which calls make sense."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.vm = world.vm("web1.example.net", state="running")
        self.disk = world.disk("sys", vm_id=self.vm.id, position=0)
        self.second = world.disk("data", vm_id=self.vm.id, position=1)
        self.snapshot = world.disk("snap", type="snapshot", source_id=self.disk.id)
        self.iface = world.iface(addresses=("192.0.2.2",), vm_id=self.vm.id, num=0, state="used")
        self.free_disk = world.disk("free")
        self.free_iface = world.iface(addresses=("192.0.2.3",))
        (ip,) = world.call("hosting.ip.list", {"iface_id": self.iface.id})
        self.ip_id = ip["id"]

    def migrate(self, *, running: bool) -> dict[str, Any]:
        """Accept the migration; with `running` its first step has been done."""
        operation: dict[str, Any] = self.world.call("hosting.vm.migrate", self.vm.id)
        if running:
            job = self.world.get(Operation, operation["id"]).job_id
            self.world.change(self.world.get(Operation, operation["id"]), step="RUN")
            self.world.change(self.world.get(Job, job), started=True)
            self.world.change(self.world.get(Vm, self.vm.id), state="being_migrated", is_migrating=True)
        return operation

    def job(self, operation: dict[str, Any]) -> Job:
        job: Job = self.world.get(Job, self.world.get(Operation, operation["id"]).job_id)
        return job


@pytest.fixture
def moving(world: World) -> Moving:
    return Moving(world)


SPEC = {"hostname": "other", "datacenter_id": 1}
COPY = {"name": "copy"}
VM, DISK, IFACE = 530267, 530467, 531767

# the call, its arguments, and which of the objects the fault names
CALLS: dict[str, tuple[str, Callable[[Moving], tuple[Any, ...]], int]] = {
    "stop": ("hosting.vm.stop", lambda m: (m.vm.id,), VM),
    "reboot": ("hosting.vm.reboot", lambda m: (m.vm.id,), VM),
    "update": ("hosting.vm.update", lambda m: (m.vm.id, {"cores": 2}), VM),
    "disk_attach": ("hosting.vm.disk_attach", lambda m: (m.vm.id, m.free_disk.id), VM),
    "disk_detach": ("hosting.vm.disk_detach", lambda m: (m.vm.id, m.second.id), VM),
    "iface_attach": ("hosting.vm.iface_attach", lambda m: (m.vm.id, m.free_iface.id), VM),
    "iface_detach": ("hosting.vm.iface_detach", lambda m: (m.vm.id, m.iface.id), VM),
    "disk.update": ("hosting.disk.update", lambda m: (m.disk.id, {"size": 20480}), DISK),
    "disk.create_from": ("hosting.disk.create_from", lambda m: (COPY, m.disk.id), DISK),
    "a snapshot": ("hosting.disk.create_from", lambda m: ({"type": "snapshot"}, m.disk.id), DISK),
    "of a snapshot": ("hosting.disk.create_from", lambda m: (COPY, m.snapshot.id), DISK),
    "snapshot update": ("hosting.disk.update", lambda m: (m.snapshot.id, {"name": "new"}), DISK),
    "snapshot delete": ("hosting.disk.delete", lambda m: (m.snapshot.id,), DISK),
    "vm.create_from": (
        "hosting.vm.create_from",
        lambda m: (SPEC, {"datacenter_id": 1, "name": "x"}, m.snapshot.id),
        DISK,
    ),
    "iface.update": ("hosting.iface.update", lambda m: (m.iface.id, {"bandwidth": 2048.0}), IFACE),
    "ip.update": ("hosting.ip.update", lambda m: (m.ip_id, {"reverse": "a.example"}), IFACE),
}


def counts(world: World) -> list[int | None]:
    """How many of everything there are."""
    with world.store.reading() as session:
        models = (Vm, Disk, Iface, Operation, Job, Claim)
        return [session.scalar(select(func.count()).select_from(model)) for model in models]


@pytest.mark.parametrize("running", [False, True], ids=["waits", "runs"])
@pytest.mark.parametrize("name", CALLS)
def test_calls_that_would_change_it_are_refused(moving: Moving, name: str, running: bool) -> None:
    world = moving.world
    called, arguments, code = CALLS[name]
    moving.migrate(running=running)
    before = counts(world)
    fault = world.fault(called, *arguments(moving))
    assert fault.code == code
    assert "CAUSE_PENDING" in fault.text
    assert "is being migrated: finalize that or cancel its operation first" in fault.text
    assert counts(world) == before
    assert world.get(Disk, moving.snapshot.id).name == "snap"


@pytest.mark.parametrize("running", [False, True], ids=["waits", "runs"])
@pytest.mark.parametrize("name", ["start", "delete"])
def test_a_halted_one_is_neither_started_nor_deleted(moving: Moving, name: str, running: bool) -> None:
    moving.world.change(moving.vm, state="halted")
    moving.migrate(running=running)
    fault = moving.world.fault(f"hosting.vm.{name}", moving.vm.id)
    assert (fault.code, fault.fields) == (VM, ("vm_id",))
    assert fault.text == (
        f"Error on object : OBJECT_VM (CAUSE_PENDING) [vm#{moving.vm.id} is being migrated: finalize that or "
        "cancel its operation first]"
    )


def test_a_rollback_of_its_disk_is_refused(moving: Moving) -> None:
    moving.migrate(running=True)
    assert moving.world.fault("hosting.vm.disk_rollback", moving.snapshot.id).code == VM


def test_what_is_only_looked_at_is_shown(moving: Moving) -> None:
    moving.migrate(running=True)
    shown = moving.world.call("hosting.vm.info", moving.vm.id)
    assert (shown["state"], shown["is_migrating"], shown["datacenter_id"]) == ("being_migrated", True, 1)
    (listed,) = moving.world.call("hosting.vm.list", {"state": "being_migrated"})
    assert listed["id"] == moving.vm.id
    # what it has nothing to do with may change
    moving.world.call("hosting.disk.update", moving.free_disk.id, {"name": "other"})


@pytest.mark.parametrize("step", ["DONE", "ERROR", "CANCEL"])
def test_calls_behind_the_end_of_one_are_accepted(moving: Moving, step: str) -> None:
    operation = moving.migrate(running=True)
    world = moving.world
    # its claims go a moment after the client can see the end
    world.change(world.get(Operation, operation["id"]), step=step)
    world.change(world.get(Vm, moving.vm.id), state="running", is_migrating=False)
    assert world.call("hosting.vm.stop", moving.vm.id)["type"] == "vm_stop"
    assert world.call("hosting.disk.update", moving.second.id, {"name": "other"})["step"] == "WAIT"


@pytest.mark.parametrize("kind", ["disk", "iface"])
def test_detached_ones_are_refused_too(moving: Moving, kind: str) -> None:
    world = moving.world
    change: dict[str, Any]
    if kind == "disk":
        identifier, change, code = moving.free_disk.id, {"name": "other"}, DISK
        boot, iface = identifier, {}
    else:
        identifier, change, code = moving.free_iface.id, {"bandwidth": 2048.0}, IFACE
        boot, iface = world.disk("boot").id, {"iface_id": identifier}
    world.call(f"hosting.{kind}.migrate", identifier, THERE)
    for name, arguments in (
        (f"hosting.{kind}.update", (identifier, change)),
        (f"hosting.{kind}.delete", (identifier,)),
        (f"hosting.{kind}.migrate", (identifier, THERE)),
        (f"hosting.vm.{kind}_attach", (moving.vm.id, identifier)),
    ):
        fault = world.fault(name, *arguments)
        assert (fault.code, fault.fields) == (code, (f"{kind}_id",)), name
    spec = {**SPEC, "sys_disk_id": boot, **iface}
    assert world.fault("hosting.vm.create", spec).code == code


@pytest.mark.parametrize("running", [False, True], ids=["waits", "runs"])
def test_no_snapshot_is_taken_by_profile(moving: Moving, running: bool) -> None:
    world = moving.world
    world.change(world.get(Disk, moving.second.id), snapshot_profile_id=1)
    world.change(world.get(Disk, moving.free_disk.id), snapshot_profile_id=1)
    operation = moving.migrate(running=running)
    clock = [now()]
    schedules = Schedules(world.store, world.services.jobs, Settings().snapshot_profiles, lambda: clock[0])

    def taken() -> list[int | None]:
        with world.store.reading() as session:
            return list(session.scalars(select(Disk.source_id).where(Disk.schedule == "daily")))

    schedules.tick()
    assert taken() == [moving.free_disk.id]
    with world.store.writing() as session:
        session.get_one(Job, moving.job(operation).id).claims = []
    schedules.tick()
    assert taken() == [moving.free_disk.id, moving.second.id]
    clock[0] += timedelta(days=1)
    schedules.tick()
    assert sorted(one or 0 for one in taken()) == [*[moving.second.id] * 2, *[moving.free_disk.id] * 2]


def test_one_that_runs_is_told_to_go_back(moving: Moving) -> None:
    world = moving.world
    operation = moving.migrate(running=True)
    world.wakes.clear()
    assert world.call("operation.cancel", operation["id"]) is True
    job = moving.job(operation)
    assert (job.told, world.told) == ("cancel", [job.id])
    # it becomes CANCEL when it has gone back
    assert world.call("operation.info", operation["id"])["step"] == "RUN"
    assert world.fault("hosting.vm.stop", moving.vm.id).code == VM
    again = world.fault("operation.cancel", operation["id"])
    assert again.code == NOT_CANCELLABLE
    assert f"operation '{operation['id']}' cannot be cancelled: it is about to end" in again.text
    assert world.fault("hosting.vm.migrate", moving.vm.id, True).code == 530247
    assert world.call("hosting.vm.can_migrate", moving.vm.id)["can_migrate"] is False
    assert (moving.job(operation).told, world.told) == ("cancel", [job.id])


def test_one_that_is_finalized_does_not_go_back(moving: Moving) -> None:
    world = moving.world
    operation = moving.migrate(running=True)
    world.call("hosting.vm.migrate", moving.vm.id, True)
    assert world.fault("operation.cancel", operation["id"]).code == NOT_CANCELLABLE
    assert moving.job(operation).told == "finalize"
    assert len(world.told) == 1


@pytest.mark.parametrize("finalized", [False, True])
def test_one_that_waits_is_cancelled_at_once(moving: Moving, finalized: bool) -> None:
    world = moving.world
    operation = moving.migrate(running=False)
    if finalized:
        world.call("hosting.vm.migrate", moving.vm.id, True)
    assert world.call("operation.cancel", operation["id"]) is True
    assert world.call("operation.info", operation["id"])["step"] == "CANCEL"
    with world.store.reading() as session:
        assert session.scalars(select(Claim.resource)).all() == []
    shown = world.call("hosting.vm.info", moving.vm.id)
    assert (shown["state"], shown["disks_id"]) == ("running", [moving.disk.id, moving.second.id])
    assert world.get(Disk, moving.snapshot.id).state == "created"
    assert world.call("hosting.vm.can_migrate", moving.vm.id)["can_migrate"] is True
    assert world.call("hosting.vm.stop", moving.vm.id)["type"] == "vm_stop"


@pytest.mark.parametrize(("kind", "undoable"), [("disk", True), ("iface", False)])
def test_detached_ones_that_run(moving: Moving, kind: str, undoable: bool) -> None:
    world = moving.world
    identifier = moving.free_disk.id if kind == "disk" else moving.free_iface.id
    operation = world.call(f"hosting.{kind}.migrate", identifier, THERE)
    world.change(world.get(Operation, operation["id"]), step="RUN")
    world.change(moving.job(operation), started=True)
    if undoable:
        assert world.call("operation.cancel", operation["id"]) is True
        assert world.told == [moving.job(operation).id]
    else:
        fault = world.fault("operation.cancel", operation["id"])
        assert fault.code == NOT_CANCELLABLE
        assert "it is in step RUN" in fault.text
        assert world.told == []


@pytest.mark.parametrize("step", ["DONE", "ERROR", "CANCEL"])
def test_one_that_has_ended_is_not_cancelled(moving: Moving, step: str) -> None:
    operation = moving.migrate(running=True)
    moving.world.change(moving.world.get(Operation, operation["id"]), step=step)
    assert moving.world.fault("operation.cancel", operation["id"]).code == NOT_CANCELLABLE
    assert moving.job(operation).told is None


def test_one_that_was_locked_while_it_waited_does_not_begin(moving: Moving, tmp_path: Path) -> None:
    world = moving.world
    moving.migrate(running=False)
    world.change(world.get(Vm, moving.vm.id), state="locked")
    hosts = Hosts("test:///default", [])
    backend = Backend(
        store=world.store,
        hosts=hosts,
        patience=Patience(),
        console_logs=tmp_path,
        consoles=Consoles(hosts, tmp_path),
        accelerated=False,
        max_vcpus=8,
        migration=MigrationSettings(),
    )
    with pytest.raises(OperationFailed, match=f"vm#{moving.vm.id} was locked meanwhile"):
        depart(backend, moving.vm.id, THERE)
    assert world.get(Vm, moving.vm.id).state == "locked"
    assert world.get(Disk, moving.disk.id).state == "created"


def test_other_running_work_is_still_not_cancelled(world: World) -> None:
    vm = world.vm()
    (operation,) = world.job(Planned("vm_stop", vm_id=vm.id))
    world.change(operation, step="RUN")
    world.change(world.get(Job, operation.job_id), started=True)
    assert world.fault("operation.cancel", operation.id).code == NOT_CANCELLABLE
    assert world.get(Job, operation.job_id).told is None
