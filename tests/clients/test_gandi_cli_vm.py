"""gandi.cli: the life of virtual machines."""

import contextlib
import os
import signal

import pytest

from tests.clients.gandi import Gandi
from tests.devices.kit import World
from tests.service.client import Struct, address
from tests.service.guest import Guest
from tests.service.waiting import until

pytestmark = pytest.mark.guest


def test_a_machine_without_any_option(world: World, gandi: Gandi) -> None:
    """What the client asks for by itself: FR-SD5, Debian 8, 256 MiB, IPv6 alone; and that it is all gone."""
    before = world.service.inventory()
    said = gandi.work("vm", "create", "--sshkey", gandi.public_key)
    assert "256Mb memory, ip v6, image Debian 8" in said.text
    # the client has seen its ssh server answer
    assert said.text.endswith("Waiting for the vm to come online\n")
    name = said.text.partition("hostname: ")[2].partition(",")[0]
    (made,) = world.client.call("hosting.vm.list", {"hostname": name})
    vm = world.client.vm(made["id"])
    assert (vm["state"], vm["memory"], vm["cores"], vm["datacenter_id"]) == ("running", 256, 1, world.here)
    assert [ip["version"] for ip in vm["ifaces"][0]["ips"]] == [6]
    assert vm["disks"][0]["name"] == f"sys_{name[2:]}"

    said = gandi.run("vm", "ssh", "--wait", name, "hostname")
    assert f"{name}\n" in said.text
    assert f"ssh -6 root@{address(vm, 6)}" in said.text

    said = gandi.work("vm", "delete", "-f", name)
    assert "Stopping your Virtual Machine(s)" in said.text
    assert f"Deleting your Virtual Machine(s) '{name}'." in said.text
    assert name not in gandi.run("vm", "list").column("hostname")
    world.service.settled(before)


def test_list_and_info(gandi: Gandi, web: Struct) -> None:
    record = {"hostname": "web", "state": "running", "id": str(web["id"])}
    assert record in gandi.run("vm", "list", "--id").records
    assert record in gandi.run("vm", "list", "--id", "--state", "running").records
    assert record not in gandi.run("vm", "list", "--id", "--state", "halted").records
    assert gandi.run("vm", "list", "--datacenter", "LU-BI1").text == ""
    said = gandi.run("vm", "info", "web")
    assert said.text == gandi.run("vm", "info", web["id"]).text
    assert said.fields == {
        "hostname": "web", "state": "running", "cores": "1", "memory": "320", "console": "",
        "datacenter": "FR-SD5", "bandwidth": "20480.0", "ip4": address(web), "ip6": address(web, 6),
        "label": "Tiny", "kernel_version": "raw", "name": "sys_web", "size": "2048",
    }  # fmt: skip


@pytest.mark.usefixtures("web")
def test_statistics(gandi: Gandi) -> None:
    def seen() -> bool:
        # a line of bars for each, empty while all is zero
        fields = gandi.run("vm", "info", "--stat", "web").fields
        return all(fields[way] for way in ("in", "out", "read", "write"))

    until(seen, 60, lambda: gandi.run("vm", "info", "--stat", "web").text)
    said = gandi.run("vm", "info", "--stat", "web")
    assert "vm network stats\n" in said.text
    assert "disk network stats\n" in said.text


def test_console(world: World, gandi: Gandi, web: Struct) -> None:
    guest = world.reach(web)
    console = gandi.start("vm", "console", "web")
    try:
        assert console.stdout is not None
        guest.run("echo said on the console > /dev/ttyS0")
        lines = iter(console.stdout.readline, "")
        assert any("said on the console" in line for line in lines), "the console did not show it"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(console.pid, signal.SIGKILL)
        console.communicate()
    assert world.client.vm(web["id"])["console"] == 1


def test_stop_and_start(world: World, gandi: Gandi, web: Struct) -> None:
    guest = world.reach(web)
    boot = guest.boot_id()
    said = gandi.work("vm", "stop", "web")
    assert "Stopping your Virtual Machine(s) 'web'." in said.text
    assert not world.service.domain(web["id"]).isActive()
    assert gandi.run("vm", "info", "web").fields["state"] == "halted"
    assert "<Fault 530260:" in gandi.refused("vm", "stop", "web")
    assert "<Fault 530260:" in gandi.refused("vm", "reboot", "web")
    gandi.work("vm", "start", "web")
    assert world.service.domain(web["id"]).isActive()
    assert "<Fault 530268:" in gandi.refused("vm", "start", "web")
    assert guest.rebooted(boot)
    assert gandi.run("vm", "ssh", "-i", world.identity.file, "alice@web", "--", "id", "-un").text.startswith(
        "alice\n"
    )


def test_reboot(world: World, gandi: Gandi, web: Struct) -> None:
    guest = world.reach(web)
    world.service.agent_answers(web["id"])
    boot = guest.boot_id()
    said = gandi.work("vm", "reboot", "web")
    assert "Rebooting your Virtual Machine(s) 'web'." in said.text
    assert guest.rebooted(boot)


def test_update(world: World, gandi: Gandi, web: Struct) -> None:
    guest = world.reach(web)
    world.service.agent_answers(web["id"])
    boot = guest.boot_id()
    gandi.work("vm", "update", "web", "--memory", 768, "--cores", 2)
    shown = gandi.run("vm", "info", "web").fields
    assert (shown["memory"], shown["cores"]) == ("768", "2")
    until(lambda: guest.run("grep -c ^processor /proc/cpuinfo") == "2", 20, "the guest has 2 cores")
    # after a reboot it gives back what it may not have, page by page
    until(lambda: 600 < _memory(guest) < 768, 60, lambda: f"the guest has 768 MiB: {_memory(guest)}")

    typed = gandi.attempt("vm", "update", "web", "--password", typed="another one\nanother one\n")
    assert typed.status == 0, typed
    assert guest.with_password("another one", "root") == "root"
    assert guest.boot_id() == boot
    assert "<Fault 530244:" in gandi.refused("vm", "update", "web")
    assert "<Fault 530237:" in gandi.refused("vm", "update", "web", "--memory", 1000)


def test_more_memory_than_the_ceiling(world: World, gandi: Gandi, web: Struct) -> None:
    guest = world.reach(web)
    world.service.agent_answers(web["id"])
    boot = guest.boot_id()
    # without --reboot the client asks, and takes no for an answer
    asked = gandi.attempt("vm", "update", "web", "--memory", 2560, typed="n\n")
    assert "memory update must be done offline." in asked.text
    assert guest.boot_id() == boot
    gandi.work("vm", "update", "web", "--memory", 2560, "--reboot")
    guest.rebooted(boot)
    # it gives the rest back when all is loaded, page by page
    world.service.agent_answers(web["id"])
    until(lambda: 2200 < _memory(guest) < 2560, 60, lambda: f"the guest has 2560 MiB: {_memory(guest)}")
    shown = world.client.vm(web["id"])
    assert (shown["memory"], shown["vm_max_memory"]) == (2560, 4096)


def test_nobody_waits_in_the_background(world: World, gandi: Gandi, web: Struct) -> None:
    said = gandi.background("vm", "update", "web", "--cores", 3)
    assert "'type': 'vm_update'" in said.text
    assert world.client.vm(web["id"])["cores"] == 3
    made = gandi.background("vm", "create", "--hostname", "later", "--sshkey", gandi.public_key)
    assert "creating your VM and its associated resources in the background" in made.text
    (later,) = world.client.call("hosting.vm.list", {"hostname": "later"})
    assert later["state"] == "running"
    world.discard(later["id"])


def _memory(guest: Guest) -> int:
    """The guest's memory in MiB, but for what its kernel keeps for itself."""
    return int(guest.run("awk '/^MemTotal/ {print $2}' /proc/meminfo")) // 1024


def _movable(world: World, vm_id: int) -> None:
    """Wait until the VM can be migrated: what room there is was looked up a moment ago."""
    until(lambda: world.client.call("hosting.vm.can_migrate", vm_id)["can_migrate"], 75, "there is room")


def _awaited(world: World, vm_id: int) -> Struct:
    """The migration of the VM, once it waits to be finalized."""

    def found() -> Struct:
        wanted = {"type": "hosting_migration_vm", "step": "RUN", "vm_id": vm_id}
        listed = world.client.call("operation.list", wanted)
        return next((one for one in listed if one["params"]["inner_step"] == "wait_finalize"), {})

    return until(found, 60, f"a migration of vm {vm_id} waits to be finalized")


def test_migrate(world: World, gandi: Gandi) -> None:
    """To the other datacenter in the background, and back with somebody who waits for all of it."""
    (vm,) = world.vms({"hostname": "nomad", "memory": 128})
    assert gandi.attempt("vm", "migrate", "-f", "--finalize", "nomad").status != 0
    _movable(world, vm["id"])
    said = gandi.run("vm", "migrate", "-f", "nomad", "--bg")
    assert "* Starting the migration of VM nomad from datacenter FR-SD5 to LU-BI1" in said.text
    _awaited(world, vm["id"])
    said = gandi.work("vm", "migrate", "-f", "--finalize", "nomad")
    assert "* Finalizing the migration of VM nomad from datacenter FR-SD5 to LU-BI1" in said.text
    assert "Your VM nomad has been migrated." in said.text
    assert gandi.run("vm", "info", "nomad").fields["datacenter"] == "LU-BI1"

    _movable(world, vm["id"])
    with gandi.start("vm", "migrate", "-f", "nomad") as waiting:
        try:
            _awaited(world, vm["id"])
            assert waiting.poll() is None
            gandi.work("vm", "migrate", "-f", "--finalize", "nomad")
            text, errors = waiting.communicate(timeout=60)
        finally:
            waiting.kill()
    assert (waiting.returncode, errors) == (0, "")
    assert "100.00%" in text
    assert "Your VM nomad has been migrated." in text
    assert world.client.vm(vm["id"])["datacenter_id"] == world.here
    world.discard(vm["id"])


def test_migrate_a_disk(world: World, gandi: Gandi) -> None:
    (disk,) = world.disks(1, name="parcel")
    said = gandi.work("disk", "migrate", "-f", "parcel")
    assert "* Starting the migration of disk parcel from datacenter FR-SD5 to LU-BI1" in said.text
    assert world.disk(disk)["datacenter_id"] != world.here
    world.throw_away(disks={disk})
