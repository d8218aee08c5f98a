"""Debian with systemd and cloud-init, as people run it."""

import time

import pytest

from tests.conftest import NewService, Reach
from tests.service.client import address
from tests.service.guest import Guest, Identity
from tests.service.process import Service

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

# systemd and cloud-init under emulation, on a busy machine
BOOT = 300.0
SCRIPT = "#!/bin/sh\nprintf '[%s]' \"$@\" > /root/arguments.new; mv /root/arguments.new /root/arguments\n"


@pytest.fixture
def service(new_service: NewService) -> Service:
    """A service whose patience is the reference's."""
    made: Service = new_service(
        "debian-12",
        HYPERVISOR_PATIENCE__STOP="300",
        HYPERVISOR_PATIENCE__STOP_AGAIN="60",
        HYPERVISOR_PATIENCE__REBOOT="120",
    )
    return made.start(120)


def test_debian(service: Service, identity: Identity, reach: Reach) -> None:
    client = service.client()
    before = service.inventory()
    image = client.image("Debian 12")
    spec = {
        "hostname": "debian.example.net", "cores": 2, "memory": 512, "ssh_key": identity.public,
        "login": "moritz", "password": "Käse & \"Brot\"", "script": SCRIPT,
        "script_args": "one 'two words' \"3 \\\" drei\" ü",
        "run": "(cat /root/arguments; pwd) > /root/run.new; mv /root/run.new /root/run",
    }  # fmt: skip
    vm = client.made(spec, {"size": 4096}, image["disk_id"])
    guest = reach(vm, seconds=BOOT)
    assert guest.run("hostname -f; id -un") == "debian.example.net\nroot"
    assert guest.run("nproc; cat /sys/block/vda/size") == f"2\n{4096 * 2048}"
    held = guest.run("ip -o addr show scope global")
    assert f"inet {address(vm, 4)}/" in held
    assert f"inet6 {address(vm, 6)}/" in held
    assert reach(vm, version=6).run("id -un") == "root"
    assert guest.appears("/root/arguments", 120) == '[one][two words][3 " drei][ü]'
    assert guest.appears("/root/run", 120) == '[one][two words][3 " drei][ü]/\n'
    assert Guest(guest.address, identity, "moritz").run("id -un; sudo -n id -un") == "moritz\nroot"
    for user in ("moritz", "root"):
        assert guest.with_password('Käse & "Brot"', user) == user
    assert int(guest.run("df -m / | awk 'END {print $2}'")) > 3000

    begun = time.monotonic()
    client.done(client.call("hosting.vm.stop", vm["id"]), 330)
    assert time.monotonic() - begun < 60, "it did not hear the first message"
    assert "reboot: Power down" in service.console(vm["id"]).text()
    client.done(client.call("hosting.vm.delete", vm["id"]))
    service.settled(before)


@pytest.mark.long
def test_debian_reboots(service: Service, identity: Identity, reach: Reach) -> None:
    client = service.client()
    spec = {"hostname": "debian.example.net", "cores": 2, "memory": 512, "ssh_key": identity.public}
    vm = client.made(spec, {"size": 4096}, client.image("Debian 12")["disk_id"])
    guest = reach(vm, seconds=BOOT)
    first, number = guest.boot_id(), service.domain(vm["id"]).ID()
    guest.run("echo kept > /root/kept")
    begun = time.monotonic()
    client.done(client.call("hosting.vm.reboot", vm["id"]), 180)
    assert time.monotonic() - begun < 115, "it was reset"
    guest.rebooted(first, BOOT)
    assert service.domain(vm["id"]).ID() == number
    assert guest.run("cat /root/kept; hostname -f") == "kept\ndebian.example.net"
