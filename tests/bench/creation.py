"""From the call to a running domain, against libvirt alone and against virt-install."""

import re
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from hypervisor.connection import Connection
from hypervisor.domain import power
from hypervisor.domain.spec import DiskSpec, DomainSpec, InterfaceSpec
from hypervisor.events import Event, Kind
from hypervisor.network import random_mac
from hypervisor.storage import pool, volume
from tests.bench.service import Client

ROUNDS = 15
_LONGEST = 60.0  # seconds
_POOL = "hypervisor-fr-sd5"
_NETWORK = "hypervisor-fr-sd5"


def measure(client: Client, connection: Connection) -> dict[str, float]:
    """Median seconds of each way; they take turns, because the speed of a shared host drifts."""
    handle = connection.handle(wait=10)
    base = next(name for name in pool.volumes(handle, _POOL) if re.fullmatch(r"image-.*\.qcow2", name))
    image = client.call("hosting.image.list", {"label": "Tiny"})[0]
    ways: dict[str, Callable[[], float]] = {
        "service": lambda: _by_service(client, connection, image),
        "libvirt": lambda: _by_libvirt(connection, base),
        "virt-install": lambda: _by_virt_install(connection, base),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, create in ways.items():
            times[way].append(create())
    return {way: median(found) for way, found in times.items()}


def _by_service(client: Client, connection: Connection, image: dict[str, int]) -> float:
    vm = {"datacenter_id": image["datacenter_id"], "hostname": "bench", "memory": 256}
    disk = {"datacenter_id": image["datacenter_id"], "name": "bench"}
    with _start(connection) as started:
        begun = time.perf_counter()
        operations = client.call("hosting.vm.create_from", vm, disk, image["disk_id"])
        # each look takes milliseconds of the two cores that do the work: none before it can be done
        started.wait(_LONGEST)
        client.finish(operations[-1])
        elapsed = time.perf_counter() - begun
    vm_id = operations[-1]["vm_id"]
    assert client.call("hosting.vm.info", vm_id)["state"] == "running"
    subprocess.run(["virsh", "-q", "destroy", f"vm-{vm_id}"], check=True, capture_output=True)
    while client.call("hosting.vm.info", vm_id)["state"] != "halted":
        time.sleep(0.01)
    client.finish(client.call("hosting.vm.delete", vm_id))
    return elapsed


@contextmanager
def _start(connection: Connection) -> Iterator[threading.Event]:
    """Set when the next domain has started."""
    started = threading.Event()

    def look(event: Event) -> None:
        if event.kind is Kind.STARTED:
            started.set()

    with connection.events.subscribed(look):
        yield started


def _by_libvirt(connection: Connection, base: str) -> float:
    handle = connection.handle()
    spec = DomainSpec(
        uuid=str(uuid.uuid4()),
        name="bench-libvirt",
        vcpus=1,
        max_vcpus=8,
        memory=256,
        max_memory=2048,
        accelerated=False,
        disks=(DiskSpec("ua-disk-0", Path(), "vda", boot=1),),
        interfaces=(InterfaceSpec("ua-iface-0", random_mac(()), _NETWORK),),
    )
    base_path = volume.path(handle, _POOL, base)
    begun = time.perf_counter()
    disk = volume.create_overlay(handle, _POOL, "bench-libvirt.qcow2", 1024, base_path)
    power.define(handle, _with_disk(spec, disk))
    power.start(handle, spec.uuid)
    elapsed = time.perf_counter() - begun
    power.undefine(handle, spec.uuid)
    volume.delete(handle, _POOL, "bench-libvirt.qcow2")
    return elapsed


def _with_disk(spec: DomainSpec, path: Path) -> DomainSpec:
    return replace(spec, disks=(replace(spec.disks[0], path=path),))


def _by_virt_install(connection: Connection, base: str) -> float:
    handle = connection.handle()
    base_path = volume.path(handle, _POOL, base)
    backing = f"backing_store={base_path},backing_format=qcow2"
    command = [
        "virt-install", "--quiet", "--connect", "qemu:///system", "--import", "--name", "bench-install",
        "--memory", "256", "--vcpus", "1", "--virt-type", "qemu", "--machine", "q35", "--graphics", "none",
        "--osinfo", "detect=off,require=off", "--network", f"network={_NETWORK},model=virtio",
        "--disk", f"size=1,pool={_POOL},format=qcow2,bus=virtio,{backing}",
        "--noautoconsole",
    ]  # fmt: skip
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    elapsed = time.perf_counter() - begun
    subprocess.run(["virsh", "-q", "destroy", "bench-install"], check=True, capture_output=True)
    subprocess.run(
        ["virsh", "-q", "undefine", "--remove-all-storage", "bench-install"], check=True, capture_output=True
    )
    return elapsed
