"""The copy of a migration and its switch, against ``virsh blockcopy --wait --pivot``.

Two equal running machines, each with the same content on a disk of its own, lie still while they are
measured. One migrates to and fro: from the call to `wait_finalize`, and from the call that finalizes until
the machine has all its disks from the other pool. That is what blockcopy does; what a migration does besides
(addresses, old volumes) is not counted. The other one has its disks copied by virsh into the other pool: all
of them, as a migration does, the system disk and the seed too, one after the other, as virsh can; into
volumes that are there already, as for a migration. The two take turns, because the speed of a shared host
drifts.
"""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from hypervisor.connection import Connection
from hypervisor.domain import mirror, power
from hypervisor.domain.spec import DiskSpec
from tests.bench.requests import wait_for_ssh
from tests.bench.service import Client

ROUNDS = 3
_CONTENT = 512  # MiB
_LOOK = 0.01  # seconds
_ROOM = 75.0  # seconds until the service has looked for it again


@dataclass(frozen=True)
class _Machine:
    """A running machine with content."""

    client: Client
    connection: Connection
    vm_id: int
    uuid: str

    @property
    def disks(self) -> tuple[DiskSpec, ...]:
        return power.read_live(self.connection.handle(), self.uuid).disks


def measure(client: Client, connection: Connection, state: Path) -> dict[str, float]:
    """Median seconds of the service and of virsh."""
    ours, theirs = (_made(client, connection, state, name) for name in ("moved", "copied"))
    times: dict[str, list[float]] = {"service": [], "virsh": []}
    for number in range(ROUNDS):
        times["service"].append(_migrate(ours))
        times["virsh"].append(_copy(theirs, state, number))
    for one in (ours, theirs):
        subprocess.run(["virsh", "-q", "destroy", f"vm-{one.vm_id}"], check=True, capture_output=True)
        while client.call("hosting.vm.info", one.vm_id)["state"] != "halted":
            time.sleep(_LOOK)
        client.finish(client.call("hosting.vm.delete", one.vm_id))
    return {way: median(found) for way, found in times.items()}


def _made(client: Client, connection: Connection, state: Path, name: str) -> _Machine:
    image = client.call("hosting.image.list", {"label": "Tiny"})[0]
    where = {"datacenter_id": image["datacenter_id"]}
    disk = client.call("hosting.disk.create", {**where, "name": name, "size": 2 * _CONTENT})
    client.finish(disk)
    (file,) = state.glob(f"pools/*/disk-{disk['disk_id']}-*")
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", f"write -P 7 0 {_CONTENT}M", file], check=True, capture_output=True
    )
    vm = {**where, "hostname": name, "memory": 256}
    made = client.call("hosting.vm.create_from", vm, where, image["disk_id"])[-1]
    client.finish(made)
    info = client.call("hosting.vm.info", made["vm_id"])
    wait_for_ssh(info["ifaces"][0]["ips"][0]["ip"])
    client.finish(client.call("hosting.vm.disk_attach", info["id"], disk["disk_id"]))
    uuid = connection.handle().lookupByName(f"vm-{info['id']}").UUIDString()
    return _Machine(client, connection, info["id"], uuid)


def _migrate(machine: _Machine) -> float:
    client = machine.client
    deadline = time.monotonic() + _ROOM
    while not client.call("hosting.vm.can_migrate", machine.vm_id)["can_migrate"]:
        if time.monotonic() > deadline:
            raise RuntimeError("the machine cannot be migrated")
        time.sleep(_LOOK)
    old = {disk.path.parent for disk in machine.disks}
    begun = time.perf_counter()
    operation = client.call("hosting.vm.migrate", machine.vm_id)
    while _step(client, operation) != "wait_finalize":
        time.sleep(_LOOK)
    copied = time.perf_counter() - begun
    begun = time.perf_counter()
    client.call("hosting.vm.migrate", machine.vm_id, True)
    handle = machine.connection.handle()
    while {live.parent for live, _ in mirror.places(handle, machine.uuid).values() if live} & old:
        time.sleep(_LOOK)
    switched = time.perf_counter() - begun
    client.finish(operation)
    return copied + switched


def _step(client: Client, operation: Any) -> Any:
    now = client.call("operation.info", operation["id"])
    if now["step"] not in ("BILL", "WAIT", "RUN"):
        raise RuntimeError(f"{now['type']}: {now['last_error']}")
    return now["params"]["inner_step"]


def _copy(machine: _Machine, state: Path, number: int) -> float:
    """The disks are where the last round put them; they go to the other pool."""
    disks = machine.disks
    (target,) = {pool for pool in (state / "pools").iterdir() if pool != disks[0].path.parent}
    copies = [target / f"copy-{number}-{disk.target}" for disk in disks]
    for disk, copy in zip(disks, copies, strict=True):
        size = machine.connection.handle().lookupByUUIDString(machine.uuid).blockInfo(disk.target)[0]
        subprocess.run(["qemu-img", "create", "-q", "-f", disk.format, copy, str(size)], check=True)
    begun = time.perf_counter()
    for disk, copy in zip(disks, copies, strict=True):
        command = [
            "virsh", "-q", "blockcopy", f"vm-{machine.vm_id}", disk.target, "--dest", str(copy),
            "--format", disk.format, "--reuse-external", "--transient-job", "--wait", "--pivot",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
    elapsed = time.perf_counter() - begun
    if number:
        # what the last round left; the volumes of the records go with their machine
        for disk in disks:
            disk.path.unlink()
    return elapsed
