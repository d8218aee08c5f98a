"""``hosting.vm.can_migrate`` and ``migrate``: what is refused, and what is accepted."""

from typing import Any

import pytest
from sqlalchemy import select

from api.operations.jobs import Planned
from api.store.models import Claim, Datacenter, Job, Operation, Vm
from hypervisor.storage.pool import Room
from tests.methods.world import BOB, World

HERE, THERE, CLOSED = 1, 2, 3
SNAPSHOT, DISK = 3072, 10240  # MiB
NO = {"can_migrate": False, "matched": [], "can_migrate_to": []}
NOT_YET = {"can_migrate": False, "matched": ["US-BA1"], "can_migrate_to": []}
YES = {"can_migrate": True, "matched": ["LU-BI1"], "can_migrate_to": ["LU-BI1"]}
REFUSED, STATE, INVALID_PHASE, PENDING = 530270, 530260, 530247, 530267
DRY = {"--dry-run": True}


@pytest.fixture
def vm(world: World) -> Vm:
    """A halted VM with two disks, a snapshot of the first, and two interfaces."""
    vm = world.vm("web1.example.net")
    disks = [world.disk(f"disk-{position}", vm_id=vm.id, position=position) for position in (0, 1)]
    world.disk("snapshot", type="snapshot", source_id=disks[0].id, size=SNAPSHOT)
    for num in (0, 1):
        world.iface(addresses=(f"192.0.2.{num + 2}",), vm_id=vm.id, num=num, state="used")
    return vm


def devices(world: World, vm: Vm) -> tuple[list[int], list[int]]:
    """The ids of the VM's disks and interfaces."""
    shown = world.call("hosting.vm.info", vm.id)
    return shown["disks_id"], shown["ifaces_id"]


def begun(world: World, operation: dict[str, Any]) -> None:
    """Let the migration be under way, as its first step leaves the records."""
    world.change(world.get(Operation, operation["id"]), step="RUN")
    world.change(world.get(Job, job_of(world, operation).id), started=True)
    world.change(world.get(Vm, operation["vm_id"]), state="being_migrated", is_migrating=True)


def job_of(world: World, operation: dict[str, Any]) -> Job:
    job: Job = world.get(Job, world.get(Operation, operation["id"]).job_id)
    return job


def refusal(
    world: World, vm: Vm, *, finalize: bool = False, **options: Any
) -> tuple[int, str, tuple[str, ...]]:
    """The refusal of a migration: its code, its reason, its fields. A dry run gives the same."""
    fault = world.fault("hosting.vm.migrate", vm.id, finalize, options)
    (objection,) = world.call("hosting.vm.migrate", vm.id, finalize, {**options, **DRY})
    assert objection == {"reason": fault.text, "attr": list(fault.fields), "error": fault.code}
    return fault.code, fault.text.partition("[")[2].removesuffix("]"), fault.fields


def cannot(world: World, vm: Vm, why: str, *, code: int = REFUSED, answer: dict[str, Any] = NO) -> None:
    """Neither method lets the VM go, and `migrate` says why; nothing is left of the attempt."""
    before = world.call("operation.count")
    assert world.call("hosting.vm.can_migrate", vm.id) == answer
    assert refusal(world, vm) == (code, f"vm#{vm.id} cannot be migrated: {why}", ("vm_id",))
    assert world.call("operation.count") == before


@pytest.mark.parametrize("state", ["running", "halted"])
def test_a_vm_can_go_where_it_is_open_and_there_is_space(world: World, vm: Vm, state: str) -> None:
    world.change(vm, state=state)
    answer = world.call("hosting.vm.can_migrate", vm.id)
    assert answer == YES
    assert {key: type(value) for key, value in answer.items()} == {
        "can_migrate": bool,
        "matched": list,
        "can_migrate_to": list,
    }
    assert world.call("hosting.vm.migrate", vm.id, False, DRY) == []
    assert world.call("operation.count") == 0


def test_one_without_any_device_can_go(world: World) -> None:
    assert world.call("hosting.vm.can_migrate", world.vm().id) == YES


def test_every_datacenter_that_suits_is_named(world: World, vm: Vm) -> None:
    world.change(world.get(Datacenter, CLOSED), iaas_closed_for="NEW")
    assert world.call("hosting.vm.can_migrate", vm.id) == {
        "can_migrate": True,
        "matched": ["LU-BI1"],
        "can_migrate_to": ["LU-BI1", "US-BA1"],
    }
    world.rooms["LU-BI1"] = Room(active=True, free=0)
    assert world.call("hosting.vm.can_migrate", vm.id) == {
        "can_migrate": True,
        "matched": ["US-BA1"],
        "can_migrate_to": ["US-BA1"],
    }
    assert world.call("hosting.vm.migrate", vm.id)["params"]["to_dc_id"] == CLOSED


CLOSED_TOO = "datacenter US-BA1 is closed"
STOPPED = "the storage pool of datacenter LU-BI1 does not run, or its libvirt does not answer"


def test_only_one_datacenter_is_open(world: World, vm: Vm) -> None:
    world.change(world.get(Datacenter, THERE), iaas_closed_for="ALL")
    cannot(world, vm, f"datacenter LU-BI1 is closed; {CLOSED_TOO}", answer={**NOT_YET, "matched": ["LU-BI1"]})


def test_the_vm_may_leave_a_closed_datacenter(world: World, vm: Vm) -> None:
    world.change(world.get(Datacenter, HERE), iaas_closed_for="ALL")
    assert world.call("hosting.vm.can_migrate", vm.id) == YES


def test_there_is_no_other_datacenter(world: World) -> None:
    with world.store.writing() as session:
        for identifier in (THERE, CLOSED):
            session.delete(session.get_one(Datacenter, identifier))
    cannot(world, world.vm(), "there is no other datacenter")


def test_the_other_datacenters_are_open_and_full(world: World, vm: Vm) -> None:
    world.change(world.get(Datacenter, CLOSED), iaas_closed_for="NONE")
    for pool in ("LU-BI1", "US-BA1"):
        world.rooms[pool] = Room(active=True, free=1)
    full = [f"datacenter {name} has 1 MiB left, and {NEEDED} may be needed" for name in ("LU-BI1", "US-BA1")]
    cannot(world, vm, "; ".join(full))


def test_the_pool_does_not_run(world: World, vm: Vm) -> None:
    world.rooms["LU-BI1"] = Room(active=False, free=10**6)
    cannot(world, vm, f"{STOPPED}; {CLOSED_TOO}", answer=NOT_YET)


NEEDED = 2 * DISK + SNAPSHOT


def test_too_little_space(world: World, vm: Vm) -> None:
    world.rooms["LU-BI1"] = Room(active=True, free=NEEDED)
    assert world.call("hosting.vm.can_migrate", vm.id) == YES
    world.rooms["LU-BI1"] = Room(active=True, free=NEEDED - 1)
    cannot(
        world,
        vm,
        f"datacenter LU-BI1 has {NEEDED - 1} MiB left, and {NEEDED} may be needed; {CLOSED_TOO}",
        answer=NOT_YET,
    )


def test_other_migrations_have_been_promised_space(world: World, vm: Vm) -> None:
    world.rooms["LU-BI1"] = Room(active=True, free=NEEDED + DISK - 1)
    disk = world.disk("of somebody else", key=BOB)
    coming = world.call("hosting.disk.migrate", disk.id, THERE, key=BOB)
    cannot(
        world,
        vm,
        f"datacenter LU-BI1 has {NEEDED - 1} MiB left, and {NEEDED} may be needed; {CLOSED_TOO}",
        answer=NOT_YET,
    )
    world.change(world.get(Operation, coming["id"]), step="DONE")
    assert world.call("hosting.vm.can_migrate", vm.id) == YES


def test_promised_space_is_never_less_than_none(world: World, vm: Vm) -> None:
    other = world.vm("other")
    world.disk("large", vm_id=other.id, position=0)
    world.call("hosting.vm.migrate", other.id)
    world.rooms["LU-BI1"] = Room(active=True, free=DISK - 1)
    cannot(
        world,
        vm,
        f"datacenter LU-BI1 has 0 MiB left, and {NEEDED} may be needed; {CLOSED_TOO}",
        answer=NOT_YET,
    )


def test_an_operation_is_pending(world: World, vm: Vm) -> None:
    stop = world.call("hosting.vm.start", vm.id)
    cannot(world, vm, f"operation {stop['id']} (vm_start) is not finished")


@pytest.mark.parametrize("state", ["paused", "locked", "being_created"])
def test_the_state_forbids_it(world: World, vm: Vm, state: str) -> None:
    world.change(vm, state=state)
    cannot(world, vm, f"it is {state}, and must be running or halted", code=STATE)


def test_an_interface_is_on_a_vlan(world: World, vm: Vm) -> None:
    vlan = world.vlan("lan")
    iface = world.iface(vlan_id=vlan.id, vm_id=vm.id, num=2, state="used")
    cannot(world, vm, f"iface#{iface.id} is on vlan#{vlan.id}, which is of its datacenter: detach it first")


@pytest.mark.parametrize("kind", ["disk", "iface"])
def test_a_device_is_leaving(world: World, vm: Vm, kind: str) -> None:
    world.change(vm, state="running")
    if kind == "disk":
        identifier = world.disk("old", vm_id=vm.id, position=2, leaving=True).id
    else:
        identifier = world.iface(vm_id=vm.id, num=2, leaving=True).id
    cannot(
        world,
        vm,
        f"{kind}#{identifier} is being detached: stop or reboot the VM, so that it leaves",
    )


def test_every_reason_is_given(world: World, vm: Vm) -> None:
    world.change(vm, state="paused")
    stop = world.call("hosting.vm.stop", vm.id)
    world.rooms["LU-BI1"] = Room(active=False, free=0)
    cannot(
        world,
        vm,
        f"it is paused, and must be running or halted; operation {stop['id']} (vm_stop) is not finished; "
        f"{STOPPED}; {CLOSED_TOO}",
        code=STATE,
    )


def test_what_is_accepted(world: World, vm: Vm) -> None:
    (first, second), ifaces = devices(world, vm)
    snapshot = world.call("hosting.disk.info", first)["snapshots_id"][0]
    operation = world.call("hosting.vm.migrate", vm.id)
    assert (operation["type"], operation["step"], operation["vm_id"]) == (
        "hosting_migration_vm",
        "WAIT",
        vm.id,
    )
    assert (operation["disk_id"], operation["iface_id"], operation["eta"]) == (None, None, 30)
    wanted = {
        "param_type": "hosting_migration_vm",
        "vm_id": vm.id,
        "from_dc_id": HERE,
        "to_dc_id": THERE,
        "inner_step": "wait_sync",
        "size": NEEDED,
    }
    assert wanted.items() <= operation["params"].items()
    job = job_of(world, operation)
    assert (job.workflow, job.told) == ("hosting_migration_vm", None)
    assert job.arguments == {"vm_id": vm.id, "datacenter_id": THERE}
    with world.store.reading() as session:
        claims = set(session.scalars(select(Claim.resource).where(Claim.job_id == job.id)))
    assert claims == {
        f"vm:{vm.id}",
        *(f"disk:{one}" for one in (first, second, snapshot)),
        *(f"iface:{one}" for one in ifaces),
    }
    assert world.wakes == [None]
    # nothing of the VM changes before the queue comes to it
    shown = world.call("hosting.vm.info", vm.id)
    assert (shown["state"], shown["is_migrating"], shown["datacenter_id"]) == ("halted", False, HERE)


def test_the_datacenter_may_be_chosen(world: World, vm: Vm) -> None:
    world.change(world.get(Datacenter, CLOSED), iaas_closed_for="NONE")
    operation = world.call("hosting.vm.migrate", vm.id, False, {"datacenter_id": CLOSED})
    assert operation["params"]["to_dc_id"] == CLOSED
    assert job_of(world, operation).arguments["datacenter_id"] == CLOSED


def test_a_datacenter_that_cannot_be_chosen(world: World, vm: Vm) -> None:
    assert refusal(world, vm, datacenter_id=99) == (532742, "Datacenter '99' doesn't exist.", ())
    assert refusal(world, vm, datacenter_id=HERE) == (
        532730,
        "datacenter_id: it is in datacenter FR-SD5 already",
        ("datacenter_id",),
    )
    closed = f"vm#{vm.id} cannot be migrated: datacenter US-BA1 is closed"
    assert refusal(world, vm, datacenter_id=CLOSED) == (REFUSED, closed, ("vm_id",))
    assert world.fault("hosting.vm.migrate", vm.id, False, {"datacenter": THERE}).code == 501537
    assert world.fault("hosting.vm.migrate", vm.id, "yes").code == 501110
    assert world.call("operation.count") == 0


@pytest.mark.parametrize("name", ["can_migrate", "migrate"])
def test_somebody_elses_and_deleted_vms_are_not_there(world: World, vm: Vm, name: str) -> None:
    for finalize in ([], [True]) if name == "migrate" else ([],):
        fault = world.fault(f"hosting.vm.{name}", vm.id, *finalize, key=BOB)
        assert (fault.code, fault.text.partition("[")[2]) == (530242, f"Vm '{vm.id}' doesn't exist.]")
    world.change(vm, state="deleted")
    assert world.fault(f"hosting.vm.{name}", vm.id).code == 530242


def test_only_migrate_has_a_short_name(world: World, vm: Vm) -> None:
    assert world.fault("vm.can_migrate", vm.id).code == 1
    assert world.call("vm.migrate", vm.id)["type"] == "hosting_migration_vm"


def test_a_migration_is_finalized_by_a_second_call(world: World, vm: Vm) -> None:
    first = world.call("hosting.vm.migrate", vm.id)
    begun(world, first)
    assert world.call("hosting.vm.can_migrate", vm.id) == YES
    world.wakes.clear()
    # a dry run of it finds nothing wrong, and changes nothing
    assert world.call("hosting.vm.migrate", vm.id, True, DRY) == []
    assert (job_of(world, first).told, world.told) == (None, [])
    second = world.call("hosting.vm.migrate", vm.id, True)
    assert (second["id"], second["step"], second["type"]) == (first["id"], "RUN", "hosting_migration_vm")
    assert job_of(world, first).told == "finalize"
    assert world.told == [job_of(world, first).id]
    assert world.wakes == []
    assert world.call("operation.count") == 1
    # from then on there is nothing to be done any more
    assert world.call("hosting.vm.can_migrate", vm.id) == NO
    ending = f"the migration of vm#{vm.id} is about to end: wait for operation {first['id']}"
    assert refusal(world, vm, finalize=True) == (INVALID_PHASE, ending, ("finalize_migration",))
    assert len(world.told) == 1


def test_one_that_waits_is_finalized_too(world: World, vm: Vm) -> None:
    first = world.call("hosting.vm.migrate", vm.id)
    assert world.call("hosting.vm.migrate", vm.id, True)["id"] == first["id"]
    assert job_of(world, first).told == "finalize"


def test_there_is_nothing_to_finalize(world: World, vm: Vm) -> None:
    nothing = (
        INVALID_PHASE,
        f"vm#{vm.id} is not being migrated: call without finalize_migration first",
        ("finalize_migration",),
    )
    assert refusal(world, vm, finalize=True) == nothing
    first = world.call("hosting.vm.migrate", vm.id)
    for step in ("DONE", "ERROR", "CANCEL"):
        world.change(world.get(Operation, first["id"]), step=step)
        assert refusal(world, vm, finalize=True) == nothing
    assert world.told == []


def test_a_second_migration_of_the_same_vm(world: World, vm: Vm) -> None:
    first = world.call("hosting.vm.migrate", vm.id)
    pending = f"vm#{vm.id} is being migrated: finalize that or cancel operation {first['id']}"
    assert refusal(world, vm)[:2] == (PENDING, pending)
    # nor does it change its way
    assert world.fault("hosting.vm.migrate", vm.id, True, {"datacenter_id": CLOSED}).code == INVALID_PHASE
    assert world.told == []
    begun(world, first)
    assert refusal(world, vm)[:2] == (PENDING, pending)


def test_the_target_of_the_own_migration_is_named_whatever_became_of_it(world: World, vm: Vm) -> None:
    begun(world, world.call("hosting.vm.migrate", vm.id))
    world.rooms["LU-BI1"] = Room(active=False, free=0)
    world.change(world.get(Datacenter, THERE), iaas_closed_for="ALL")
    assert world.call("hosting.vm.can_migrate", vm.id) == YES


def test_a_snapshot_that_is_still_being_made_is_waited_for(world: World, vm: Vm) -> None:
    (first, _), _ = devices(world, vm)
    made = world.call("hosting.disk.create_from", {"type": "snapshot"}, first)
    assert world.call("hosting.vm.can_migrate", vm.id) == YES
    operation = world.call("hosting.vm.migrate", vm.id)
    assert operation["params"]["size"] == NEEDED + DISK
    with world.store.reading() as session:
        job = job_of(world, operation).id
        assert session.get(Claim, (f"disk:{made['disk_id']}", job)) is not None


def test_a_finished_operation_does_not_matter(world: World, vm: Vm) -> None:
    (operation,) = world.job(Planned("vm_stop", vm_id=vm.id), claims=(f"vm:{vm.id}",))
    world.change(operation, step="ERROR")
    assert world.call("hosting.vm.can_migrate", vm.id) == YES
