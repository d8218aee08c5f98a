"""A datacenter on another host: a second libvirtd, in namespaces of its own, serves the second datacenter."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import libvirt
import pytest

from hypervisor.lab import find
from tests.conftest import NewService
from tests.connection.daemon import OwnLab
from tests.service.client import Client, Struct, address
from tests.service.waiting import until

pytestmark = [pytest.mark.guest, pytest.mark.lab, pytest.mark.timeout(600)]

_GREETED = "exec 3<>/dev/tcp/{}/22 && head -c 4 <&3"


class TwoHosts:
    """A service whose second datacenter is on a host of its own; neither runs yet."""

    def __init__(self, folder: Path, new_service: NewService) -> None:
        self._lab = OwnLab(f"two-hosts-{os.getpid()}", folder / "there")
        self.uri = self._lab.uri
        self.service = new_service(HYPERVISOR_STATISTICS__EVERY="1", HYPERVISOR_PATIENCE__LIBVIRT="8")
        self.there = self.service.put_on(self.uri)

    def begin(self) -> Client:
        """Start the service; its client."""
        client = self.service.start().client()
        self.ids = [int(one["id"]) for one in client.call("hosting.datacenter.list")]
        return client

    def appear(self) -> None:
        """Start the second host."""
        self._lab.start()

    def die(self) -> None:
        """End it at once, as a power cut would."""
        os.kill(find(self._lab.name).pid, signal.SIGKILL)
        self._lab.end()

    def end(self) -> None:
        """End it with its guests."""
        self._lab.end()

    def made(self, client: Client, where: int) -> Struct:
        """A VM in the first (0) or the second datacenter (1)."""
        return client.made({"hostname": "web"}, source=self.image(client, where))

    def image(self, client: Client, where: int) -> int:
        """The disk of the image in one of the datacenters."""
        return int(client.image(datacenter=self.ids[where])["disk_id"])

    def has(self, vm: Struct) -> tuple[bool, bool]:
        """Whether the first host has the VM, and whether the second does."""
        with closing(libvirt.open(self.uri)) as there:
            connections = (self.service.host.connection, there)
            names = [{domain.name() for domain in one.listAllDomains()} for one in connections]
        return f"vm-{vm['id']}" in names[0], f"vm-{vm['id']}" in names[1]

    def switch_off(self, vm: Struct) -> None:
        """Cut it off on the second host, behind the service's back."""
        with closing(libvirt.open(self.uri)) as there:
            there.lookupByName(f"vm-{vm['id']}").destroy()

    def greeted(self, vm: Struct) -> bool:
        """Whether the guest's ssh server answers in the second host's network."""
        done = subprocess.run(
            ["nsenter", "--target", str(find(self._lab.name).pid), "--net",
             "timeout", "3", "bash", "-c", _GREETED.format(address(vm))],
            check=False, capture_output=True, timeout=30, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout == b"SSH-"


@pytest.fixture
def hosts(tmp_path: Path, new_service: NewService) -> Iterator[TwoHosts]:
    """Two hosts and their service."""
    made = TwoHosts(tmp_path, new_service)
    yield made
    made.end()


def measured(client: Client, vm: Struct) -> bool:
    """Whether there are samples of the VM's processors."""
    probes = client.vm(vm["id"])["probes"]
    return any(one["device_type"] == "cpu" and one["status"] == "active" for one in probes)


def test_a_vm_lives_on_the_other_host(hosts: TwoHosts) -> None:
    hosts.appear()
    client = hosts.begin()
    vm = hosts.made(client, 1)
    assert hosts.has(vm) == (False, True)
    assert f"vm#{vm['id']}: bandwidth is not limited: it runs on another host" in hosts.service.log
    until(lambda: hosts.greeted(vm), 90, "its guest has the address that it was given")
    until(lambda: measured(client, vm), 30, "its statistics come")

    client.done(client.call("hosting.vm.stop", vm["id"]))
    assert client.vm(vm["id"])["state"] == "halted"
    client.done(client.call("hosting.vm.start", vm["id"]))
    hosts.switch_off(vm)
    client.in_state(vm["id"], "halted")

    client.done(client.call("hosting.vm.delete", vm["id"]))
    assert hosts.has(vm) == (False, False)
    left = [file.name for file in (hosts.service.pools / hosts.there.pool).iterdir()]
    assert all(name.startswith("image-") for name in left)

    near = hosts.made(client, 0)
    assert hosts.has(near) == (True, False)
    hosts.service.discard(client, near["id"])


@pytest.mark.long
def test_the_other_host_dies_and_comes_back(hosts: TwoHosts) -> None:
    hosts.appear()
    client = hosts.begin()
    vm, away = hosts.made(client, 1), f"datacenter LU-BI1: libvirt at {hosts.uri} does not answer"
    image = hosts.image(client, 1)

    hosts.die()
    until(lambda: f"connection to libvirt at {hosts.uri} broke" in hosts.service.log, 30, "it is missed")
    stop = client.call("hosting.vm.stop", vm["id"])
    # the first datacenter goes on
    near = hosts.made(client, 0)
    hosts.service.discard(client, near["id"])
    # what is asked of the second one fails, and changes nothing
    (ended,) = client.finished(stop, 90)
    assert (ended["step"], ended["last_error"].startswith(away)) == ("ERROR", True)
    failed = client.finished(client.create_from({"hostname": "never"}, source=image), 90)
    assert {one["step"] for one in failed} == {"ERROR"}
    assert failed[0]["last_error"].startswith(away)
    assert client.vm(vm["id"])["state"] == "running"

    hosts.appear()
    client.in_state(vm["id"], "halted", 60)
    client.done(client.call("hosting.vm.start", vm["id"]))
    assert hosts.has(vm) == (False, True)


@pytest.mark.long
def test_the_other_host_is_away_at_the_start(hosts: TwoHosts) -> None:
    client = hosts.begin()
    assert f"LU-BI1 is left out for now: datacenter LU-BI1: libvirt at {hosts.uri} does" in hosts.service.log
    spec = {"datacenter_id": hosts.ids[1], "ip_version": 4}
    (ended,) = client.finished(client.call("hosting.iface.create", spec), 90)
    assert ended["step"] == "ERROR"
    assert ended["last_error"].startswith(f"datacenter LU-BI1: libvirt at {hosts.uri} does not answer")
    assert client.call("hosting.image.list", {"datacenter_id": hosts.ids[1]}) == []

    hosts.appear()
    until(lambda: "datacenter LU-BI1 can be used from now on" in hosts.service.log, 60, "it is prepared")
    assert hosts.has(hosts.made(client, 1)) == (False, True)
