"""Two hosts: two labs, each with a libvirtd of its own, joined by a cable, and a machine that moves."""

import ctypes
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import libvirt

from hypervisor.connection import Connection
from hypervisor.domain import power
from hypervisor.domain.power import State
from hypervisor.lab import find
from hypervisor.network import reservations
from hypervisor.storage import pool
from tests.connection.daemon import OwnLab
from tests.devices.kit import World
from tests.domain.moving import Guest, counted
from tests.migration.moving import SYNC, volume
from tests.service.client import Struct
from tests.service.guest import Identity
from tests.service.host import Host
from tests.service.process import Service
from tests.service.waiting import until

T = TypeVar("T")

HERE, THERE = 0, 1
ADDRESSES = ("10.98.8.1", "10.98.8.2")
CABLE = "tb-cable"
FILL = 20  # MiB

_COUNT = """
set -e
until device=$(grep -lx disk-{disk} /sys/block/vd*/serial); do sleep 0.1; done
device=/dev/$(basename $(dirname $device))
mkfs.ext4 -q $device; mkdir /data; mount $device /data
dd if=/dev/urandom of=/data/fill bs=1M count={fill} conv=fsync 2>/dev/null
cat > /root/count <<'S'
n=0
while :; do n=$((n + 1)); echo $n | dd of=$1 oflag=append conv=notrunc,fsync 2>/dev/null || exit; done
S
for f in /root/counter /data/counter; do setsid sh /root/count $f </dev/null >/dev/null 2>&1 & done
"""


class TwoHosts:
    """A service with a datacenter on each of two hosts."""

    def __init__(self, folder: Path, host: Host, identity: Identity) -> None:
        self.lab = OwnLab(f"between-{os.getpid()}", folder / "there")
        state = folder / "service"
        state.mkdir()
        self.service = Service(state, host)
        self.service.put_on(self.lab.uri, ADDRESSES)
        self._identity = identity
        self._there = Connection(self.lab.uri)

    @property
    def connections(self) -> tuple[libvirt.virConnect, libvirt.virConnect]:
        """The two libvirts."""
        return self.service.host.connection, self._there.handle(wait=30)

    def begin(self) -> None:
        """Start the other host, lay the cable, start the service."""
        self.lab.start()
        self._there.start()
        init = str(find(self.lab.name).pid)
        _ip("link", "add", CABLE, "type", "veth", "peer", "name", CABLE, "netns", init)
        for address, within in zip(ADDRESSES, ([], ["nsenter", "--target", init, "--net"]), strict=True):
            _ip("address", "add", f"{address}/30", "dev", CABLE, within=within)
            _ip("link", "set", CABLE, "up", within=within)
        self.client = self.service.start().client()
        self.world = World(self.service, self.client, self._identity, None)  # type: ignore[arg-type]
        self.ids = [int(one["id"]) for one in self.client.call("hosting.datacenter.list")]

    def end(self) -> None:
        """End everything."""
        self.service.dispose()
        self._there.stop()
        self.lab.end()
        # this end goes with the other one, once the kernel comes to it
        with suppress(subprocess.CalledProcessError):
            _ip("link", "delete", CABLE)

    def on(self, side: int, function: Callable[[], T]) -> T:
        """Call the function in the network of one of the hosts."""
        if side == HERE:
            return function()
        pid = find(self.lab.name).pid

        def work() -> T:
            with Path(f"/proc/{pid}/ns/net").open() as namespace:
                # of this thread alone
                assert ctypes.CDLL(None).setns(namespace.fileno(), 0) == 0
            return function()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(work).result()

    def holds(self, side: int) -> set[str]:
        """What there is on the host of the service's machine and of disks: domain, volumes, reservations."""
        connection, place = self.connections[side], self.service.datacenters[side]
        files = {file.name for file in (self.service.pools / place.pool).iterdir()}
        listed = set(pool.volumes(connection, place.pool))
        return {
            *(one.name() for one in connection.listAllDomains() if self._is_ours(one)),
            *(name for name in files | listed if not name.startswith("image-")),
            *(one.mac for one in reservations(connection, place.network)),
        }

    def _is_ours(self, domain: libvirt.virDomain) -> bool:
        number = domain.name().removeprefix("vm-")
        return number.isdecimal() and 0 <= int(number) - self.service.first_vm < 1000

    def only_on(self, side: int, vm_id: int, count: int) -> None:
        """Wait until `count` things are on the host, and nothing on the other one."""
        until(
            lambda: (len(self.holds(side)), self.holds(1 - side)) == (count, set()),
            15,
            lambda: f"{count} things on host {side} alone: {self.holds(HERE)}, {self.holds(THERE)}",
        )
        shown = self.client.vm(vm_id)
        assert (shown["datacenter_id"], shown["is_migrating"]) == (self.ids[side], False)
        assert {disk["datacenter_id"] for disk in shown["disks"]} == {self.ids[side]}


def _ip(*arguments: str, within: list[str] | None = None) -> None:
    subprocess.run([*(within or []), "ip", *arguments], check=True, capture_output=True, timeout=30)


class Mover:
    """A running machine with two disks and a snapshot, whose guest counts on both disks."""

    def __init__(self, hosts: TwoHosts) -> None:
        self.hosts = hosts
        world, client = hosts.world, hosts.client
        (vm,) = world.vms({"hostname": "mover", "memory": 256})
        self.id = int(vm["id"])
        (self.data,) = world.disks(1)
        world.do("disk_attach", self.id, self.data)
        client.done(client.call("hosting.vm.update", self.id, {"console": True}))
        self.uuid = str(hosts.service.domain(self.id).UUIDString())
        self.guest = Guest(self.uuid, [])
        self.boot = self.guest.boot_id(hosts.connections[HERE])
        self.guest.shell(hosts.connections[HERE], _COUNT.format(disk=self.data, fill=FILL))
        self.snapshot = world.copy(self.data, type="snapshot", name="then")
        self.seen = [0, 0]
        # domain, two disks, snapshot, seed, and the addresses of one interface
        self.things = 6

    @property
    def addresses(self) -> list[str]:
        """The addresses of its interface."""
        return [ip["ip"] for ip in self.hosts.client.vm(self.id)["ifaces"][0]["ips"]]

    def runs_on(self, side: int) -> None:
        """Check that all of it is on that host, that it is the same boot, and that it counts on."""
        self.hosts.only_on(side, self.id, self.things)
        assert self.hosts.client.vm(self.id)["state"] == "running"
        connection = self.hosts.connections[side]
        assert self.guest.boot_id(connection) == self.boot
        before = list(self.seen)

        def gone_on() -> bool:
            said = self.guest.shell(connection, "cat /root/counter | wc -l; cat /data/counter | wc -l")
            self.seen = [int(one) for one in said.split()]
            return all(now > then for now, then in zip(self.seen, before, strict=True))

        until(gone_on, 20, lambda: f"it counts on: {before}, then {self.seen}")

    def counted(self, side: int, folder: Path) -> list[int]:
        """How far the halted machine has counted: on whole file systems, with no number missing."""
        assert self.hosts.client.vm(self.id)["state"] == "halted"
        self.hosts.only_on(side, self.id, self.things)
        root, data = (volume(self.hosts.world, one) for one in self.hosts.client.vm(self.id)["disks_id"])
        return [counted(root, folder, "/root", partition=True), counted(data, folder, "")]

    def copying(self, operation: Struct) -> None:
        """Wait for the middle of the copy of the running machine's disks."""
        client, there = self.hosts.client, self.hosts.connections[THERE]

        def met() -> bool:
            now = client.operation(operation["id"])["params"]
            half = 40 < now.get("progress", {}).get("percent", 0) < 98
            return half and now["inner_step"] == SYNC and power.state(there, self.uuid) is not State.ABSENT

        until(met, 30, lambda: f"it is copied: {client.operation(operation['id'])}")

    def discard(self) -> None:
        """Delete it with all that it has, wherever it is."""
        client, world = self.hosts.client, self.hosts.world
        vm = client.vm(self.id)
        if vm["state"] == "running":
            with_it = self.hosts.connections[self.hosts.ids.index(vm["datacenter_id"])]
            power.cut_off(with_it, self.uuid)
            client.in_state(self.id, "halted")
        world.do("delete", self.id)
        world.throw_away(disks={*vm["disks_id"], self.snapshot}, ifaces=vm["ifaces_id"])
