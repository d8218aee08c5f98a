"""A guest under load: what it does is in the samples, in the graphs, in the probes and in hosting.metric."""

import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from tests.conftest import Reach
from tests.service.client import Client, Struct
from tests.service.guest import Guest, Identity
from tests.service.host import Host
from tests.service.process import Service
from tests.service.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.guest]

_MEGABYTE = 2**20


@dataclass
class Machine:
    """A running guest of a service that takes a sample every second."""

    service: Service
    client: Client
    guest: Guest
    vm: Struct

    def used(self, query: str, since: float, function: str = "sum") -> list[float | None]:
        """What hosting.metric says of the time since then, as one number for each series."""
        q = {
            "start": written(since),
            "end": written(time.time() + 1),
            "query": query,
            "resource_id": [self.vm["id"]],
            "resource_type": "vm",
            "sampler": {"unit": "days", "value": 1, "function": function},
        }
        return [one["points"][0].get("value") for one in self.client.call("hosting.metric.query", q)]

    def calms(self, query: str, most: float, what: str) -> None:
        """Wait until samples taken after now say that no more than that is used in three seconds."""
        asked = time.time()

        def quiet() -> bool:
            since = time.time() - 3
            (value,) = self.used(query, since)
            return since > asked + 1 and value is not None and value <= most

        until(quiet, 30, what)

    def reaches(self, query: str, since: float, least: float) -> float:
        """The sum of what was used since then, once it is at least so much."""

        def found() -> float:
            (value,) = self.used(query, since)
            return value if value is not None and value >= least else 0.0

        return until(found, 20, lambda: f"{query} of {self.used(query, since)} reaches {least}")

    def ran(self) -> float:
        """The seconds that the kernel of the host has run the guest's processors (proc_pid_stat(5))."""
        threads = Path(f"/proc/{self.service.qemu(self.vm['id'])}/task").glob("*/stat")
        named = [one.read_text().rpartition(")") for one in threads]
        ticks = [sum(map(int, rest.split()[11:13])) for name, _, rest in named if "(CPU " in name]
        assert ticks
        return sum(ticks) / os.sysconf("SC_CLK_TCK")


def written(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S}"


def written_by(guest: Guest) -> int:
    """The bytes that the guest's kernel has written to its disk."""
    return int(guest.run("cat /sys/block/vda/stat").split()[6]) * 512


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory, host: Host, identity: Identity, reach: Reach
) -> Iterator[Machine]:
    service = Service(tmp_path_factory.mktemp("statistics"), host, {"HYPERVISOR_STATISTICS__EVERY": "1"})
    try:
        service.start()
        client = service.client()
        vm = client.made({"hostname": "busy", "ssh_key": identity.public, "cores": 1})
        guest = reach(vm)
        vm = client.vm(vm["id"])
        yield Machine(service, client, guest, vm)
    finally:
        service.dispose()


def fetch(url: str, **options: Any) -> tuple[int, bytes, Any]:
    request = urllib.request.Request(url, **options)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def test_load_is_in_the_samples_with_its_direction(machine: Machine) -> None:
    # what the first boot left to be written: tens of megabytes, and the samples of them come later
    machine.guest.run("sync")
    machine.calms("vbd.bytes.write", 0, "the disk is quiet")
    # a sample that is late says that it was taken at the second before: it counts too
    began, before = time.time() - 2, written_by(machine.guest)
    machine.guest.run("dd if=/dev/zero of=/root/load bs=1M count=24 conv=fsync 2>/dev/null; sync")
    least = written_by(machine.guest) - before
    assert least >= 24 * _MEGABYTE
    assert machine.reaches("vbd.bytes.write", began, 0.99 * least) < 1.2 * least
    machine.guest.run("echo 3 > /proc/sys/vm/drop_caches; cat /root/load > /dev/null; rm /root/load")
    assert machine.reaches("vbd.bytes.read", began, 24 * _MEGABYTE) < 64 * _MEGABYTE
    # the guest sends: out is its own direction; the sample that it begins in counts as a whole
    began = time.time() - 1
    sent = machine.guest.run("dd if=/dev/zero bs=1M count=4 2>/dev/null", seconds=60)
    assert len(sent) == 4 * _MEGABYTE
    assert machine.reaches("vif.bytes.out", began, 4 * _MEGABYTE) < 8 * _MEGABYTE
    assert (machine.used("vif.bytes.in", began)[0] or 0.0) < 2 * _MEGABYTE
    # and is sent to, after the answers to what it sent
    machine.calms("vif.packets.in", 20, "the network is quiet")
    began = time.time() - 2
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(200):
            sender.sendto(bytes(1400), (machine.guest.address, 9))
    assert machine.reaches("vif.packets.in", began, 200) < 600
    assert machine.reaches("vif.bytes.in", began, 200 * 1400) < 2 * 200 * 1500


def test_a_busy_processor_is_busy(machine: Machine) -> None:
    machine.calms("vcpu.time.all", 0.1, "the processor is quiet")
    began, before = time.time() - 2, machine.ran()
    machine.guest.run("timeout 6 sh -c 'while :; do :; done'; true")
    # as much as this host could give
    least = machine.ran() - before
    assert least > 0.1
    assert machine.reaches("vcpu.time.all", began, 0.95 * least) < 1.1 * least + 0.2
    # a processor cannot be used more than it is there; samples are not taken at exactly their second
    assert (machine.used("vcpu.time.all", began, "max")[0] or 0) < 1.3


def test_every_probe_is_active(machine: Machine) -> None:
    probes = machine.client.vm(machine.vm["id"])["probes"]
    assert [(one["device_type"], one["status"]) for one in probes] == [
        ("cpu", "active"), ("disk", "active"), ("iface", "active"),
    ]  # fmt: skip


def test_a_trigger_is_raised_by_load_and_comes_down_without(machine: Machine) -> None:
    vm_id = machine.vm["id"]
    made = machine.service.cli(
        "vm", "trigger", "add", str(vm_id), "vcpu.time.used", "--max", "5",
        "--duration", "2", "--recovery-duration", "2",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    (trigger,) = machine.client.vm(vm_id)["triggers"]
    assert (trigger["vm_id"], trigger["device_type"], trigger["max_value"]) == (vm_id, "cpu", 5)

    def shows(status: str) -> bool:
        return bool(machine.client.vm(vm_id)["probes"][0]["status"] == status)

    until(lambda: shows("active"), 60, "the processor is quiet")
    load = machine.guest.run("sh -c 'while :; do :; done' >/dev/null 2>&1 & echo $!").strip()
    until(lambda: shows("alert"), 60, "the trigger is raised")
    machine.guest.run(f"kill {load}")
    until(lambda: shows("active"), 60, "the trigger comes down")
    gone = machine.service.cli("vm", "trigger", "delete", str(trigger["id"]))
    assert gone.returncode == 0, gone.stderr
    assert machine.client.vm(vm_id)["triggers"] == []


def test_graphs_are_served(machine: Machine) -> None:
    urls = machine.client.vm(machine.vm["id"])["graph_urls"]
    assert {key: len(value) for key, value in urls.items()} == {"vcpu": 2, "vdi": 2, "vif": 2}
    for url in (one for value in urls.values() for one in value):
        assert url.startswith(f"http://127.0.0.1:{machine.service.port}/graphs/")
        status, drawn, headers = fetch(url)
        assert (status, headers["Content-Type"]) == (200, "image/svg+xml")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        root = etree.fromstring(drawn)
        shown = [one.text or "" for one in root.iter("{*}text")]
        assert any(one.startswith("busy: ") for one in shown)
        assert "There are no samples of this time yet." not in shown
        assert fetch(url, method="HEAD")[:2] == (200, b"")
        assert fetch(url, method="POST", data=b"")[0] == 405
        altered = url[:-10] + ("A" if url[-10] != "A" else "B") + url[-9:]
        assert fetch(altered)[:2] == (404, b"404 Not Found\n")


def test_a_restart_begins_a_new_line_and_the_record_changes(machine: Machine) -> None:
    vm_id = machine.vm["id"]
    before = machine.client.vm(vm_id)["date_updated"]
    machine.service.domain(vm_id).destroy()
    stopped = machine.client.in_state(vm_id, "halted")
    assert stopped["date_updated"] > before
    assert stopped["hvm_state"] == "unknown"
    until(
        lambda: {one["status"] for one in machine.client.vm(vm_id)["probes"]} == {"inactive"},
        15, "the probes of a halted machine are inactive",
    )  # fmt: skip
    began = time.time()
    machine.client.done(machine.client.call("hosting.vm.start", vm_id))
    machine.guest.ready()
    machine.reaches("vbd.bytes.read", began, 1)
    highest = [value for value in machine.used("vbd.bytes.all", began, "max") if value is not None]
    lowest = [value for value in machine.used("vbd.bytes.all", began, "min") if value is not None]
    assert min(lowest) >= 0
    assert max(highest) < 2000 * _MEGABYTE


def test_samples_outlive_the_service(machine: Machine) -> None:
    began = time.time() - 60
    url = machine.client.vm(machine.vm["id"])["graph_urls"]["vdi"][0]
    (wrote,) = machine.used("vbd.bytes.write", began)
    assert wrote
    started = time.monotonic()
    assert machine.service.terminate() == 0
    assert time.monotonic() - started < 10
    machine.service.start()
    assert (machine.used("vbd.bytes.write", began)[0] or 0) >= wrote * 0.99
    assert fetch(url)[0] == 200


def test_a_deleted_machines_graphs_are_gone(machine: Machine) -> None:
    """The last one: the machine is gone afterwards."""
    vm = machine.client.vm(machine.vm["id"])
    machine.service.discard(machine.client, vm["id"])
    for url in (one for value in vm["graph_urls"].values() for one in value):
        assert fetch(url)[:2] == (404, b"404 Not Found\n")
