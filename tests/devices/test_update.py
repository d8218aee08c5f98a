"""Machines changed while they run and while they do not."""

from collections.abc import Iterator

import asyncssh
import pytest

from tests.devices.kit import World
from tests.service.client import Struct, steady
from tests.service.guest import Guest
from tests.service.waiting import until

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def vm(world: World) -> Iterator[Struct]:
    """A VM of one core and 256 MiB, of up to 1024."""
    (made,) = world.vms(
        {"hostname": "grows", "login": "moritz", "password": "the first one", "vm_max_memory": 1024}
    )
    yield made
    world.discard(made["id"])


@pytest.fixture
def guest(world: World, vm: Struct) -> Guest:
    """Its guest, which runs, down to the agent."""
    if world.client.vm(vm["id"])["state"] != "running":
        world.do("start", vm["id"])
    reached = world.reach(vm)

    world.service.agent_answers(vm["id"])
    return reached


def update(world: World, vm: Struct, **changes: object) -> Struct:
    """Change the VM; the operation."""
    operation = world.client.call("hosting.vm.update", vm["id"], changes)
    assert (operation["type"], operation["vm_id"]) == ("vm_update", vm["id"])
    return world.client.done(operation)[0]


def memory(guest: Guest) -> int:
    """The guest's memory in MiB, but for what its kernel keeps for itself."""
    return int(guest.run("awk '/^MemTotal/ {print $2}' /proc/meminfo")) // 1024


def has_memory(guest: Guest, least: int, most: int) -> None:
    """Wait until the guest has more than `least` and less than `most` MiB."""
    until(lambda: least < memory(guest) < most, 60, lambda: f"{least} to {most} MiB: {memory(guest)}")


def cores(guest: Guest) -> int:
    """The cores that the guest uses."""
    return int(guest.run("grep -c ^processor /proc/cpuinfo"))


def test_memory_changes_while_the_guest_runs(world: World, vm: Struct, guest: Guest) -> None:
    boot = guest.boot_id()
    has_memory(guest, 100, 256)
    for wanted, least in ((768, 600), (192, 100)):
        operation = update(world, vm, memory=wanted)
        assert "applied" not in operation["params"]
        assert world.client.vm(vm["id"])["memory"] == wanted
        has_memory(guest, least, wanted)
    assert guest.boot_id() == boot
    assert world.client.vm(vm["id"])["vm_max_memory"] == 1024
    update(world, vm, memory=256)


def test_more_than_the_ceiling_restarts_the_guest(world: World, vm: Struct, guest: Guest) -> None:
    boot = guest.boot_id()
    update(world, vm, memory=2560, password="at the restart")
    shown = world.client.vm(vm["id"])
    assert (shown["memory"], shown["vm_max_memory"], shown["state"]) == (2560, 2560, "running")
    guest.rebooted(boot)
    assert 2200 < memory(guest) < 2560
    assert guest.with_password("at the restart", "moritz") == "moritz"
    # a new ceiling alone does too; the same one does not
    boot = guest.boot_id()
    update(world, vm, memory=256, vm_max_memory=2560)
    assert guest.boot_id() == boot
    update(world, vm, vm_max_memory=1024)
    guest.rebooted(boot)
    shown = world.client.vm(vm["id"])
    assert (shown["memory"], shown["vm_max_memory"]) == (256, 1024)
    has_memory(guest, 100, 256)


def test_cores_come_at_once_and_go_at_the_next_start(world: World, vm: Struct, guest: Guest) -> None:
    boot = guest.boot_id()
    assert cores(guest) == 1
    assert "applied" not in update(world, vm, cores=3)["params"]
    until(lambda: cores(guest) == 3, 20, lambda: f"3 cores: {cores(guest)}")
    operation = update(world, vm, cores=2)
    assert operation["params"]["applied"] == {"cores": "at next start"}
    assert world.client.vm(vm["id"])["cores"] == 2
    assert (cores(guest), guest.boot_id()) == (3, boot)
    world.power_off(vm["id"])
    world.do("start", vm["id"])
    guest.ready()
    assert cores(guest) == 2


def test_a_password_logs_in_at_once(world: World, vm: Struct, guest: Guest) -> None:
    password = "Straße & 'x'"
    assert "applied" not in update(world, vm, password=password)["params"]
    for user in ("root", "moritz"):
        assert guest.with_password(password, user) == user
        with pytest.raises(asyncssh.PermissionDenied):
            guest.with_password("the first one", user)


def test_a_password_without_an_agent_waits_for_the_next_start(world: World, vm: Struct, guest: Guest) -> None:
    guest.run("killall qemu-ga; while pidof qemu-ga; do sleep 0.1; done")
    operation = update(world, vm, password="without an agent")
    assert operation["params"]["applied"] == {"password": "at next start"}
    with pytest.raises(asyncssh.PermissionDenied):
        guest.with_password("without an agent", "root")
    world.power_off(vm["id"])
    world.do("start", vm["id"])
    guest.ready()
    assert guest.with_password("without an agent", "root") == "root"
    # the same for one that is off
    world.power_off(vm["id"])
    update(world, vm, password="while it is off")
    world.do("start", vm["id"])
    guest.ready()
    assert guest.with_password("while it is off", "moritz") == "moritz"


def test_the_rest(world: World, vm: Struct) -> None:
    before = world.client.vm(vm["id"])
    update(world, vm, shares=7)
    now = world.client.vm(vm["id"])
    assert steady({**now, "date_updated": before["date_updated"]}) == steady(before)
    update(world, vm, console=True)
    assert world.client.vm(vm["id"])["console"] == 1
    update(world, vm, console=False)
    assert world.client.vm(vm["id"])["console"] == 0


def test_a_halted_vm_has_all_of_it_at_its_next_start(world: World, vm: Struct) -> None:
    world.power_off(vm["id"])
    assert "applied" not in update(world, vm, cores=1, memory=320, vm_max_memory=512)["params"]
    world.do("start", vm["id"])
    guest = world.reach(vm)
    assert cores(guest) == 1
    has_memory(guest, 200, 320)


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({}, 530244, ""),
        ({"memory": 100}, 530237, "memory"),
        ({"memory": 0}, 530237, "memory"),
        ({"memory": 64 * 1024 * 1024}, 530237, "memory"),
        ({"vm_max_memory": 1000}, 530237, "vm_max_memory"),
        ({"cores": 0}, 530237, "cores"),
        ({"cores": 100_000}, 530237, "cores"),
        ({"cores": "2"}, 501010, "cores"),
        ({"console": "yes"}, 501110, "console"),
        ({"password": ""}, 501237, "password"),
        ({"password": "with\nnewline"}, 501237, "password"),
        ({"hostname": "not a name"}, 530238, "hostname"),
        ({"nonsense": 1}, 501537, "nonsense"),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused(world: World, vm: Struct, changes: Struct, code: int, field: str) -> None:
    before = world.client.vm(vm["id"])
    refused = world.client.refusal("hosting.vm.update", vm["id"], changes)
    assert refused.faultCode == code, refused.faultString
    assert field in refused.faultString
    assert world.client.vm(vm["id"]) == before
