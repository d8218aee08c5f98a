"""Stop, reboot, start: by message first, by the switch in the end."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.settings import Patience
from tests.conftest import NewService, Reach
from tests.migration.moving import check_filesystem
from tests.service.client import Client, Struct
from tests.service.guest import Guest, Identity, make_identity
from tests.service.process import PATIENCE, Service

pytestmark = pytest.mark.guest

LIMIT = float(PATIENCE["HYPERVISOR_PATIENCE__STOP"])
AGAIN = float(PATIENCE["HYPERVISOR_PATIENCE__STOP_AGAIN"])
RESET = float(PATIENCE["HYPERVISOR_PATIENCE__REBOOT"])
# between the end of a wait and the moment when somebody who asks every so often sees it
LATE = 4.0

# hears the power button, says so, and does nothing
DEAF = """
printf '#!/bin/sh\\necho deaf: button > /dev/console\\n' > /etc/acpi/PWRF/00000080
touch /root/deaf; sync
"""


@pytest.fixture(scope="module")
def pair(
    service: Service, client: Client, identity: Identity, reach: Reach
) -> Iterator[tuple[Struct, Struct]]:
    """Two VMs: one whose guest does as it is told, one whose guest ignores the power button."""
    told = client.create_from(
        {"hostname": "obedient", "ssh_key": identity.public, "run": "echo first >> /root/firsts"}
    )
    untold = client.create_from({"hostname": "deaf", "ssh_key": identity.public, "run": DEAF})
    client.done([*told, *untold])
    obedient, deaf = client.vm(told[-1]["vm_id"]), client.vm(untold[-1]["vm_id"])
    reach(obedient).appears("/root/firsts")
    reach(deaf).run("until [ -e /root/deaf ]; do sleep 0.1; done", 60)
    yield obedient, deaf
    service.discard(client, obedient["id"], deaf["id"])


@pytest.fixture
def obedient(
    service: Service, client: Client, pair: tuple[Struct, Struct], reach: Reach
) -> tuple[Struct, Guest]:
    """A running VM whose guest does as it is told."""
    return _running(service, client, pair[0], reach)


@pytest.fixture
def deaf(service: Service, client: Client, pair: tuple[Struct, Struct], reach: Reach) -> tuple[Struct, Guest]:
    """A running VM whose guest ignores the power button."""
    return _running(service, client, pair[1], reach)


def _running(service: Service, client: Client, vm: Struct, reach: Reach) -> tuple[Struct, Guest]:
    if client.vm(vm["id"])["state"] != "running":
        client.done(client.call("hosting.vm.start", vm["id"]))
    # one that is still booting is told again when it is up, and would hear twice
    service.agent_answers(vm["id"])
    return vm, reach(vm)


def test_the_times_are_the_references() -> None:
    patience = Patience()
    assert (patience.stop, patience.reboot) == (300, 120)
    assert 0 < patience.stop_again < patience.stop


def test_an_obedient_guest_halts_cleanly_and_starts_again(
    service: Service, client: Client, reach: Reach, obedient: tuple[Struct, Guest], tmp_path: Path
) -> None:
    vm, guest = obedient
    console = service.console(vm["id"])
    first, clean = guest.boot_id(), console.count("tiny: poweroff")
    guest.run("echo kept > /root/kept")
    # a file system cannot be left whole while somebody writes to it
    guest.run("setsid sh -c 'while date; do sync; done' </dev/null >/root/dates 2>&1 &")
    guest.appears("/root/dates")
    begun = time.monotonic()
    operation = client.call("hosting.vm.stop", vm["id"])
    assert (operation["type"], operation["vm_id"], operation["step"]) == ("vm_stop", vm["id"], "WAIT")
    client.done(operation)
    assert time.monotonic() - begun < LIMIT, "it did not halt by itself"
    assert client.vm(vm["id"])["state"] == "halted"
    assert console.count("tiny: poweroff") == clean + 1
    assert not service.domain(vm["id"]).isActive()
    (volume,) = service.pools.glob(f"*/disk-{vm['disks_id'][0]}-*")
    check_filesystem(volume, tmp_path)

    operation = client.call("hosting.vm.start", vm["id"])
    assert (operation["type"], operation["vm_id"]) == ("vm_start", vm["id"])
    client.done(operation)
    assert client.vm(vm["id"])["state"] == "running"
    again = reach(client.vm(vm["id"]))
    assert again.run("cat /root/kept; hostname") == "kept\nobedient"
    assert again.boot_id() != first
    # what ran at the first boot did not run again
    service.agent_answers(vm["id"])
    assert again.run("cat /root/firsts") == "first"


def test_a_deaf_guest_hears_two_messages_and_is_cut_off(
    service: Service, client: Client, deaf: tuple[Struct, Guest]
) -> None:
    vm, _ = deaf
    console = service.console(vm["id"])
    heard = console.count("deaf: button")
    begun = time.monotonic()
    operation = client.call("hosting.vm.stop", vm["id"])
    first = console.says("deaf: button", heard + 1, AGAIN) - begun
    second = console.says("deaf: button", heard + 2, LIMIT) - begun
    client.done(operation)
    ended = time.monotonic() - begun
    assert first < AGAIN - 1
    assert AGAIN - 0.5 < second < AGAIN + LATE / 2
    assert LIMIT - 0.5 < ended < LIMIT + LATE
    assert console.count("deaf: button") == heard + 2
    assert console.count("tiny: poweroff") == 0
    assert client.vm(vm["id"])["state"] == "halted"
    assert not service.domain(vm["id"]).isActive()


def test_a_deaf_guest_is_reset_at_its_limit(
    service: Service, client: Client, deaf: tuple[Struct, Guest]
) -> None:
    vm, guest = deaf
    before, number = guest.boot_id(), service.domain(vm["id"]).ID()
    heard = service.console(vm["id"]).count("deaf: button")
    begun = time.monotonic()
    client.done(client.call("hosting.vm.reboot", vm["id"]))
    assert RESET - 0.5 < time.monotonic() - begun < RESET + LATE
    guest.rebooted(before)
    assert service.domain(vm["id"]).ID() == number
    assert client.vm(vm["id"])["state"] == "running"
    assert service.console(vm["id"]).count("deaf: button") == heard + 1


def test_an_obedient_guest_reboots_in_the_same_domain(
    service: Service, client: Client, obedient: tuple[Struct, Guest]
) -> None:
    vm, guest = obedient
    before, number, process = guest.boot_id(), service.domain(vm["id"]).ID(), service.qemu(vm["id"])
    clean = service.console(vm["id"]).count("tiny: poweroff")
    begun = time.monotonic()
    operation = client.call("hosting.vm.reboot", vm["id"])
    assert operation["type"] == "vm_reboot"
    client.done(operation)
    assert time.monotonic() - begun < RESET, "it did not reboot by itself"
    assert client.vm(vm["id"])["state"] == "running"
    guest.rebooted(before)
    assert (service.domain(vm["id"]).ID(), service.qemu(vm["id"])) == (number, process)
    assert service.console(vm["id"]).count("tiny: poweroff") == clean + 1
    assert float(guest.run("cut -d' ' -f1 /proc/uptime")) < 60


def test_guests_that_act_by_themselves_are_followed(
    service: Service, client: Client, obedient: tuple[Struct, Guest]
) -> None:
    vm, guest = obedient
    operations = client.call("operation.count", {"vm_id": vm["id"]})
    before, number = guest.boot_id(), service.domain(vm["id"]).ID()
    guest.attempt("reboot")
    guest.rebooted(before)
    assert client.vm(vm["id"])["state"] == "running"
    assert service.domain(vm["id"]).ID() == number

    guest.attempt("poweroff")
    assert client.in_state(vm["id"], "halted")["hvm_state"] == "unknown"
    assert client.call("operation.count", {"vm_id": vm["id"]}) == operations
    # and so it may be started at once
    client.done(client.call("hosting.vm.start", vm["id"]))
    assert client.vm(vm["id"])["state"] == "running"


def test_a_paused_guest_is_shown_goes_on_and_stops(
    service: Service, client: Client, obedient: tuple[Struct, Guest]
) -> None:
    vm, guest = obedient
    before, clean = guest.boot_id(), service.console(vm["id"]).count("tiny: poweroff")
    service.domain(vm["id"]).suspend()
    client.in_state(vm["id"], "paused")
    client.done(client.call("hosting.vm.start", vm["id"]))
    assert client.vm(vm["id"])["state"] == "running"
    assert guest.boot_id() == before

    service.domain(vm["id"]).suspend()
    client.in_state(vm["id"], "paused")
    client.done(client.call("hosting.vm.stop", vm["id"]))
    assert client.vm(vm["id"])["state"] == "halted"
    assert service.console(vm["id"]).count("tiny: poweroff") == clean + 1


def test_start_parameters_are_applied_once(
    service: Service, client: Client, reach: Reach, tmp_path_factory: pytest.TempPathFactory,
    obedient: tuple[Struct, Guest],
) -> None:  # fmt: skip
    vm, guest = obedient
    folder = tmp_path_factory.mktemp("keys")
    other, stored = make_identity(folder, "other"), make_identity(folder, "stored")
    key = client.call("hosting.ssh.create", {"name": "later", "value": stored.public})
    client.done(client.call("hosting.vm.stop", vm["id"]))
    params = {
        "password": "another password", "ssh_key": [other.public], "keys": [key["id"]], "login": "max",
        "farm": "gamma",
        "script": "#!/bin/sh\necho \"$1\" >> /root/scripts\n", "script_args": "'first time'",
        "run": "echo run >> /root/runs",
    }  # fmt: skip
    client.done(client.call("hosting.vm.start", vm["id"], params))
    assert client.vm(vm["id"])["farm"] == "gamma"
    reach(vm)
    assert guest.appears("/root/scripts") == "first time\n"
    assert guest.appears("/root/runs") == "run\n"
    assert guest.with_password("another password", "max") == "max"
    for one in (other, stored):
        assert Guest(guest.address, one).run("hostname") == "obedient"
    client.call("hosting.ssh.delete", key["id"])

    # a start that only changes the password runs nothing again
    client.done(client.call("hosting.vm.stop", vm["id"]))
    client.done(client.call("hosting.vm.start", vm["id"], {"password": "a third one"}))
    reach(vm)
    service.agent_answers(vm["id"])
    assert guest.with_password("a third one", "root") == "root"
    assert guest.run("cat /root/scripts /root/runs /root/firsts") == "first time\nrun\nfirst"


def test_a_guest_that_boots_is_told_again_when_it_is_up(new_service: NewService) -> None:
    service = new_service(HYPERVISOR_PATIENCE__STOP="300", HYPERVISOR_PATIENCE__STOP_AGAIN="200")
    client = service.start().client()
    (*_, made) = operations = client.create_from({"hostname": "boots"})
    client.done(operations)
    console = service.console(made["vm_id"])
    begun = time.monotonic()
    client.done(client.call("hosting.vm.stop", made["vm_id"]))
    assert time.monotonic() - begun < 100
    assert console.count("tiny: poweroff") == 1
    client.done(client.call("hosting.vm.delete", made["vm_id"]))
