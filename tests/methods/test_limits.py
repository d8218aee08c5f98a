"""What an account may have, whichever call asks for more, and however many ask at once."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from api.methods.dispatch import Dispatcher
from api.methods.faults import Fault
from api.operations.schedule import Schedules
from api.settings import AccountLimits, Limits
from api.store.models import Disk, Operation
from tests.methods.world import ALICE, BOB, World

QUOTA = 530035
VM = {"datacenter_id": 1, "hostname": "web", "memory": 512, "cores": 2, "vm_max_memory": 1024}


def limit(world: World, /, **limits: int | None) -> None:
    """Give Alice's account limits of its own."""
    world.change(world.accounts[ALICE], limits=limits)


def default(world: World, **limits: int) -> None:
    """Let the settings limit every account."""
    given = Limits(cores=8, account=AccountLimits(**limits))
    world.services = replace(world.services, limits=given)
    world.dispatch = Dispatcher(world.services)


def refusal(world: World, kind: str, name: str, *arguments: Any) -> str:
    """What the quota's fault says, which is about `kind`."""
    fault = world.fault(name, *arguments)
    assert (fault.code, fault.fields) == (QUOTA, (kind,)), fault
    head, _, said = fault.text.partition(" [")
    assert head == "Error on object : OBJECT_HOSTING_ACCOUNT (CAUSE_QUOTA_REACHED)"
    return said.removesuffix("]")


def create(world: World, **spec: Any) -> Any:
    """A VM on a disk of its own."""
    disk = world.disk("sys", size=1024)
    return world.call("hosting.vm.create", {**VM, "sys_disk_id": disk.id, **spec})


@pytest.mark.parametrize(
    ("kind", "most", "said"),
    [
        ("vms", 2, "vms: 1 asked for, 2 in use, and the account's limit is 2"),
        ("cores", 5, "cores: 2 asked for, 4 in use, and the account's limit is 5"),
        (
            "memory",
            3071,
            "memory: 1024 MiB asked for, 2048 MiB in use, and the account's limit is 3071 MiB",
        ),
        ("addresses", 5, "addresses: 2 asked for, 4 in use, and the account's limit is 5"),
    ],
)
def test_vm_create(world: World, kind: str, most: int, said: str) -> None:
    limit(world, **{kind: most})
    create(world)
    create(world)
    disk = world.disk("sys", size=1024)
    given = {**VM, "sys_disk_id": disk.id}
    before = world.call("operation.count")
    assert refusal(world, kind, "hosting.vm.create", given) == said
    (told,) = world.call("hosting.vm.create", {**given, "--dry-run": True})
    assert (told["error"], told["attr"]) == (QUOTA, [kind])
    assert world.call("operation.count") == before
    assert world.call("hosting.vm.count") == 2
    limit(world, **{kind: None})
    create(world)


def test_vm_create_from_counts_the_disk(world: World) -> None:
    image = world.image("Tiny")
    limit(world, disk=20480)
    world.call("hosting.vm.create_from", VM, {"size": 16384}, image.disk_id)
    said = refusal(world, "disk", "hosting.vm.create_from", VM, {"size": 5120}, image.disk_id)
    assert said == "disk: 5120 MiB asked for, 16384 MiB in use, and the account's limit is 20480 MiB"
    assert world.call("hosting.vm.count") == 1
    world.call("hosting.vm.create_from", VM, {"size": 4096}, image.disk_id)


def test_an_interface_that_is_there_needs_no_addresses(world: World) -> None:
    iface = world.iface(addresses=("192.0.2.5", "2001:db8::5"))
    limit(world, addresses=2)
    create(world, iface_id=iface.id)


def test_disk_create(world: World) -> None:
    limit(world, disk=10240)
    world.call("hosting.disk.create", {"datacenter_id": 1, "size": 6144})
    refusal(world, "disk", "hosting.disk.create", {"datacenter_id": 1, "size": 5120})
    world.call("hosting.disk.create", {"datacenter_id": 1, "size": 4096})
    assert world.call("hosting.disk.count") == 2


def test_vlan_create(world: World) -> None:
    limit(world, vlans=1)
    world.call("hosting.vlan.create", {"name": "one", "datacenter_id": 1})
    said = refusal(world, "vlans", "hosting.vlan.create", {"name": "two", "datacenter_id": 1})
    assert said == "vlans: 1 asked for, 1 in use, and the account's limit is 1"
    assert world.call("hosting.vlan.count") == 1


def test_snapshots_and_copies_count(world: World) -> None:
    disk = world.disk(size=4096)
    limit(world, disk=10240)
    world.call("hosting.disk.create_from", {"type": "snapshot"}, disk.id)
    refusal(world, "disk", "hosting.disk.create_from", {"type": "snapshot"}, disk.id)
    refusal(world, "disk", "hosting.disk.create_from", {}, disk.id)


def test_disk_update_counts_what_it_grows_by(world: World) -> None:
    first, second = world.disk(size=4096), world.disk(size=4096)
    limit(world, disk=10240)
    said = refusal(world, "disk", "hosting.disk.update", first.id, {"size": 7168})
    assert said == "disk: 3072 MiB asked for, 8192 MiB in use, and the account's limit is 10240 MiB"
    # accepted, not done: it counts all the same
    world.call("hosting.disk.update", first.id, {"size": 5120})
    assert world.get(Disk, first.id).size == 4096
    refusal(world, "disk", "hosting.disk.update", second.id, {"size": 6144})
    refusal(world, "disk", "hosting.disk.update", first.id, {"size": 7168})
    world.call("hosting.disk.update", second.id, {"size": 5120})
    world.call("hosting.disk.update", second.id, {"name": "other"})


def test_vm_update_counts_what_it_grows_by(world: World) -> None:
    first, second = world.vm(cores=2), world.vm(cores=2)
    limit(world, cores=6, memory=5120)
    refusal(world, "cores", "hosting.vm.update", first.id, {"cores": 5})
    world.call("hosting.vm.update", first.id, {"cores": 4})
    said = refusal(world, "cores", "hosting.vm.update", second.id, {"cores": 3})
    assert said == "cores: 1 asked for, 6 in use, and the account's limit is 6"
    # its way down is not done either, and counts once it is
    world.call("hosting.vm.update", first.id, {"cores": 1})
    refusal(world, "cores", "hosting.vm.update", second.id, {"cores": 3})
    finish(world)
    world.change(first, cores=1)
    world.call("hosting.vm.update", second.id, {"cores": 5})


def test_memory_is_what_a_guest_could_take(world: World) -> None:
    vm = world.vm(memory=512, vm_max_memory=1024)
    limit(world, memory=2048)
    world.call("hosting.vm.update", vm.id, {"memory": 1024})
    refusal(world, "memory", "hosting.vm.update", vm.id, {"vm_max_memory": 4096})
    refusal(world, "memory", "hosting.vm.update", vm.id, {"memory": 2112})
    refusal(world, "memory", "hosting.vm.create", {**VM, "memory": 64, "sys_disk_id": world.disk().id,
                                                   "vm_max_memory": 1088})  # fmt: skip
    world.call("hosting.vm.update", vm.id, {"memory": 2048})


def test_what_is_over_a_new_limit_stays_and_may_shrink(world: World) -> None:
    vm = world.vm(cores=4)
    limit(world, vms=0, cores=1, memory=64, disk=0, addresses=0)
    assert world.call("hosting.vm.info", vm.id)["cores"] == 4
    world.call("hosting.vm.update", vm.id, {"cores": 3, "hostname": "other"})
    refusal(world, "cores", "hosting.vm.update", vm.id, {"cores": 5})


@pytest.mark.parametrize("spec", [{}, {"ip_version": 6}])
def test_iface_create(world: World, spec: dict[str, int]) -> None:
    needed = 1 if spec else 2
    limit(world, addresses=needed)
    world.call("hosting.iface.create", {"datacenter_id": 1, **spec})
    refusal(world, "addresses", "hosting.iface.create", {"datacenter_id": 1, **spec})
    vlan = world.vlan("lan")
    private = {"datacenter_id": 1, "vlan": vlan.id}
    refusal(world, "addresses", "hosting.iface.create", private)
    limit(world, addresses=needed + 1)
    world.call("hosting.iface.create", private)


def rollback_from(world: World, disk: Disk, snapshot: Disk) -> tuple[str, int]:
    """The call for a detached disk."""
    world.change(disk, vm_id=None, position=None)
    return "hosting.disk.rollback_from", snapshot.id


def disk_rollback(world: World, disk: Disk, snapshot: Disk) -> tuple[str, int]:
    """The call for an attached one."""
    world.change(disk, vm_id=world.vm().id, position=1)
    return "hosting.vm.disk_rollback", snapshot.id


@pytest.mark.parametrize("way", [rollback_from, disk_rollback])
def test_a_rollback_to_more_than_there_is_counts(
    world: World, way: Callable[[World, Disk, Disk], tuple[str, int]]
) -> None:
    disk = world.disk(size=1024)
    snapshot = world.disk("snap", type="snapshot", size=4096, source_id=disk.id)
    call = way(world, disk, snapshot)
    limit(world, disk=8191)
    said = refusal(world, "disk", *call)
    assert said == "disk: 3072 MiB asked for, 5120 MiB in use, and the account's limit is 8191 MiB"
    limit(world, disk=8192)
    world.call(*call)
    # it is not done: what it will take is not there for others
    refusal(world, "disk", "hosting.disk.create", {"datacenter_id": 1, "size": 1024})


def test_a_rollback_to_the_same_size_is_free(world: World) -> None:
    disk = world.disk(size=4096)
    snapshot = world.disk("snap", type="snapshot", size=4096, source_id=disk.id)
    limit(world, disk=0)
    world.call(*rollback_from(world, disk, snapshot))


def finish(world: World) -> None:
    """Let all accepted work be done."""
    with world.store.writing() as session:
        session.query(Operation).update({"step": "DONE"})


def test_the_settings_limit_every_account(world: World) -> None:
    default(world, vms=1)
    world.vm()
    world.vm(key=BOB)
    given = {**VM, "sys_disk_id": world.disk("sys").id}
    refusal(world, "vms", "hosting.vm.create", given)
    limit(world, vms=2)
    world.call("hosting.vm.create", given)
    # the other one still has the default
    bobs = {**VM, "sys_disk_id": world.disk("sys", key=BOB).id}
    assert world.fault("hosting.vm.create", bobs, key=BOB).code == QUOTA
    world.change(world.accounts[BOB], limits={"vms": None})
    world.call("hosting.vm.create", bobs, key=BOB)


def test_what_others_have_does_not_count(world: World) -> None:
    world.vm(key=BOB, cores=8)
    world.vm(state="deleted", cores=8)
    limit(world, vms=1, cores=2)
    create(world)


def test_account_info_tells_what_is_left(world: World) -> None:
    world.vm(cores=2, memory=512, vm_max_memory=1024)
    world.disk(size=2048)
    limit(world, vms=3, cores=4, memory=1536, disk=1024, addresses=7)
    shown = world.call("hosting.account.info")["resources"]
    left = {key: shown["available"][key] for key in ("servers", "cores", "memory", "disk", "ips")}
    assert left == {"servers": 2, "cores": 2, "memory": 512, "disk": 0, "ips": 7}
    assert shown["granted"]["cores"] == 4


def together(count: int, call: Callable[[int], Any]) -> list[int]:
    """The codes of the faults that `count` calls at once end in, 0 for none."""
    barrier, codes = threading.Barrier(count), list[int]()

    def run(number: int) -> None:
        barrier.wait()
        try:
            call(number)
        except Fault as fault:
            codes.append(fault.code)
        else:
            codes.append(0)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(codes)


@pytest.mark.parametrize("left", [1, 3])
def test_calls_at_once_cannot_all_have_what_is_left(world: World, left: int) -> None:
    disks = [world.disk("sys", size=1024) for _ in range(8)]
    limit(world, vms=left)

    def ask(number: int) -> None:
        world.dispatch("hosting.vm.create", [ALICE, {**VM, "sys_disk_id": disks[number].id}], "192.0.2.1")

    assert together(8, ask) == [0] * left + [QUOTA] * (8 - left)
    assert world.call("hosting.vm.count") == left


def test_updates_at_once_cannot_all_have_what_is_left(world: World) -> None:
    vms = [world.vm(cores=1) for _ in range(8)]
    limit(world, cores=10)

    def ask(number: int) -> None:
        world.dispatch("hosting.vm.update", [ALICE, vms[number].id, {"cores": 2}], "192.0.2.1")

    assert together(8, ask) == [0] * 2 + [QUOTA] * 6


def test_a_schedule_over_its_limit_is_skipped(world: World, caplog: pytest.LogCaptureFixture) -> None:
    mine = world.disk("mine", size=1024, snapshot_profile_id=1)
    bobs = world.disk("bobs", key=BOB, size=1024, snapshot_profile_id=1)
    limit(world, disk=2047)
    schedules = Schedules(
        world.store, world.services.jobs, world.services.snapshot_profiles, limits=AccountLimits(disk=2048)
    )
    with caplog.at_level(logging.WARNING):
        schedules.tick()
    (said,) = (one.getMessage() for one in caplog.records)
    assert said == (
        f"no snapshot 'daily' is taken of disk#{mine.id}: disk: 1024 MiB asked for, 1024 MiB in use, and the "
        "account's limit is 2047 MiB"
    )
    (taken,) = world.call("hosting.disk.list", {"type": "snapshot"}, key=BOB)
    assert taken["source"] == bobs.id
    assert world.call("hosting.disk.count", {"type": "snapshot"}) == 0
    limit(world, disk=2048)
    schedules.tick()
    assert world.call("hosting.disk.count", {"type": "snapshot"}) == 1
