"""Machines that move between datacenters while their guests count, and where all that is theirs is."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import libvirt
from lxml import etree

from api.settings import DatacenterSettings
from hypervisor.domain.xml import parse_labels
from hypervisor.network import bridge, reservations
from hypervisor.storage import pool
from tests.devices.kit import World, block_device
from tests.service.client import FINISHED, Struct, address
from tests.service.guest import Guest
from tests.service.waiting import until

SYNC, FINALIZE = "wait_sync", "wait_finalize"

_COUNT = """\
#!/bin/sh
# a line is on the disk before the next one is begun
n=$(wc -l 2>/dev/null < "$1" || echo 0)
while :; do n=$((n + 1)); echo $n | dd of="$1" oflag=append conv=notrunc,fsync 2>/dev/null || exit; done
"""
_LAST = "awk '$1 != NR {bad = NR \": \" $0; exit} END {if (bad) {print bad; exit 1} print NR}'"


@dataclass
class Traveller:
    """A VM that moves; its guest counts in a file on each of its disks, one number a line, as fast as it can
    have them written for good."""

    world: World
    vm_id: int
    data: list[int]
    seen: Counter[str] = field(default_factory=Counter)
    boot: str = ""

    @property
    def guest(self) -> Guest:
        """The guest, at the address that the VM has now."""
        return Guest(address(self.world.client.vm(self.vm_id)), self.world.identity)

    @property
    def files(self) -> list[str]:
        """The counters."""
        return ["/root/counter", *(f"/disk-{one}/counter" for one in self.data)]

    def counting(self) -> "Traveller":
        """This, once it runs and its guest counts, in whatever state it was."""
        if self.world.client.vm(self.vm_id)["state"] == "halted":
            self.world.do("start", self.vm_id)
        guest = self.guest.ready()
        boot = guest.boot_id()
        if boot != self.boot:
            self.boot = boot
            for one in self.data:
                guest.run(f"mkdir -p /disk-{one}; mount /dev/{block_device(guest, one)} /disk-{one}")
            guest.run(f"cat > /root/count <<'END'\n{_COUNT}END\nchmod +x /root/count")
            guest.run(
                "for f in "
                + " ".join(self.files)
                + "; do setsid /root/count $f >/dev/null 2>&1 </dev/null & done"
            )
        self.counted()
        return self

    def counted(self) -> None:
        """Check that every counter is whole, has all that it had at the last look, and goes on."""
        guest = self.guest
        before = dict(self.seen)

        def gone_on() -> bool:
            for file in self.files:
                self.seen[file] = int(guest.run(f"{_LAST} {file}"))
            return all(self.seen[file] > before.get(file, 0) for file in self.files)

        until(gone_on, 20, lambda: f"all counters go on: {before}, then {dict(self.seen)}")

    # its way

    def depart(self) -> Struct:
        """Ask for the migration, as soon as that is possible; its operation."""
        return depart(self.world, self.vm_id)

    def finalize(self) -> Struct:
        """Ask for its end; its operation."""
        return finalize(self.world, self.vm_id)

    def whole(self) -> int:
        """The datacenter that all of it is in."""
        return whole(self.world, self.vm_id)


def traveller(world: World, hostname: str, disks: Iterable[int] = (), fill: int = 0) -> Traveller:
    """A running VM with the `disks`, empty ones, each with a file of `fill` MiB."""
    (vm,) = world.vms({"hostname": hostname, "memory": 256})
    made = Traveller(world, vm["id"], list(disks))
    guest = world.reach(vm)
    for one in made.data:
        world.do("disk_attach", vm["id"], one)
        name = block_device(guest, one)
        guest.run(f"mkfs.ext4 -q /dev/{name} && mkdir /disk-{one} && mount /dev/{name} /disk-{one}", 60)
        guest.run(f"dd if=/dev/urandom of=/disk-{one}/fill bs=1M count={fill} conv=fsync", 60)
        guest.run(f"umount /disk-{one}")
    return made.counting()


def depart(world: World, vm_id: int, *arguments: object) -> Struct:
    """Ask for the VM's migration, with more `arguments` if any, as soon as it is possible; its operation."""
    # what room there is was looked up a moment ago
    until(
        lambda: world.client.call("hosting.vm.can_migrate", vm_id)["can_migrate"],
        75,
        lambda: f"vm {vm_id} can be migrated: {world.client.vm(vm_id)}",
    )
    operation: Struct = world.client.call("hosting.vm.migrate", vm_id, *arguments)
    return operation


def synced(world: World, operation: Struct, seconds: float = 60) -> list[Struct]:
    """Wait until the migration may be finalized; the params seen meanwhile."""
    seen: list[Struct] = []

    def ready() -> bool:
        now = world.client.operation(operation["id"])
        assert now["step"] not in FINISHED, now
        if not seen or seen[-1] != now["params"]:
            seen.append(now["params"])
        return bool(now["params"]["inner_step"] == FINALIZE)

    until(ready, seconds, lambda: f"migration in step: {seen[-3:]}")
    return seen


def finalize(world: World, vm_id: int) -> Struct:
    """Ask for the end of the VM's migration; its operation."""
    operation: Struct = world.client.call("hosting.vm.migrate", vm_id, True)
    return operation


def place(world: World, datacenter_id: int) -> DatacenterSettings:
    """What the datacenter is made of."""
    (record,) = world.client.call("hosting.datacenter.list", {"id": datacenter_id})
    return next(one for one in world.service.datacenters if one.dc_code == record["dc_code"])


def elsewhere(world: World, datacenter_id: int) -> int:
    """The other datacenter."""
    return next(
        int(one["id"]) for one in world.client.call("hosting.datacenter.list") if one["id"] != datacenter_id
    )


def whole(world: World, vm_id: int, seconds: float = 30) -> int:
    """The datacenter that all of the VM is in, once it is."""
    until(lambda: not list(strays(world, vm_id)), seconds, lambda: "; ".join(strays(world, vm_id)))
    return int(world.client.vm(vm_id)["datacenter_id"])


def strays(world: World, vm_id: int) -> Iterator[str]:
    """What of the VM is not where its record is, and what volumes belong to nobody."""
    vm = world.client.vm(vm_id)
    here = place(world, vm["datacenter_id"])
    if vm["is_migrating"] or vm["state"] not in ("running", "halted"):
        yield f"the VM is {vm['state']}, is_migrating {vm['is_migrating']}"
    yield from _records(world, vm)
    for name in ("live", "inactive"):
        yield from (f"{name}: {what}" for what in _domain(world, vm, here, live=name == "live"))
    yield from _volumes(world, vm, here)
    yield from _network(world, vm, here)


def disks_of(vm: Struct) -> list[int]:
    """The VM's disks and their snapshots."""
    return [one for disk in vm["disks"] for one in (disk["id"], *disk["snapshots_id"])]


def _records(world: World, vm: Struct) -> Iterator[str]:
    here = vm["datacenter_id"]
    for one in disks_of(vm):
        disk = world.disk(one)
        if (disk["datacenter_id"], disk["state"]) != (here, "created"):
            yield f"disk#{one} is {disk['state']} in datacenter {disk['datacenter_id']}"
    for iface in vm["ifaces"]:
        listed = world.client.call("hosting.ip.list", {"iface_id": iface["id"]})
        if [one["id"] for one in listed] != iface["ips_id"]:
            yield f"iface#{iface['id']} has the addresses {iface['ips_id']}, listed are {listed}"
        for one in (iface, *listed):
            if one["datacenter_id"] != here or one["state"] not in ("used", "created"):
                yield f"{one} is {one['state']} in datacenter {one['datacenter_id']}"


def _domain(world: World, vm: Struct, here: DatacenterSettings, *, live: bool) -> Iterator[str]:
    domain = world.service.domain(vm["id"])
    if live and not domain.isActive():
        return
    xml = domain.XMLDesc(0 if live else libvirt.VIR_DOMAIN_XML_INACTIVE)
    root = etree.fromstring(xml.encode())
    folder = world.service.pools / here.pool
    for source in root.iterfind("devices/disk//source"):
        file = Path(source.get("file", ""))
        if file.parent != folder or not file.exists():
            yield f"{file}"
    if root.find("devices/disk/mirror") is not None:
        yield "a mirror"
    for source in root.iterfind("devices/interface/source"):
        if source.get("network") != here.network:
            yield f"network {source.get('network')}"
    if parse_labels(xml)["datacenter"] != here.dc_code:
        yield f"labels {parse_labels(xml)}"
    state = domain.state()[0]
    if live and state != libvirt.VIR_DOMAIN_RUNNING:
        yield f"state {state}"


def _volumes(world: World, vm: Struct, here: DatacenterSettings) -> Iterator[str]:
    listed = {
        f"{one.pool}/{name}"
        for one in world.service.datacenters
        for name in pool.volumes(world.service.host.connection, one.pool)
    }
    files = {f"{file.parent.name}/{file.name}" for file in world.service.pools.glob("*/*")}
    if listed ^ files:
        yield f"volumes without file, or the other way round: {sorted(listed ^ files)}"
    mine = {f"seed-{vm['id']}", *(f"disk-{one}" for one in disks_of(vm))}
    owned = Counter(file.rpartition("-")[0] for file in files if "/image-" not in file)
    for one in mine:
        if owned[f"{here.pool}/{one}"] != 1:
            yield f"{one} has {owned[f'{here.pool}/{one}']} files in {here.pool}"
    known = {f"disk-{one['id']}" for one in world.client.call("hosting.disk.list", {"items_per_page": 500})}
    known |= {f"seed-{one['id']}" for one in world.client.call("hosting.vm.list", {"items_per_page": 500})}
    names = Counter(one.partition("/")[2] for one in owned.elements())
    for name, count in names.items():
        if name not in known or count != 1:
            yield f"{count} files of {name}: {sorted(owned)}"


def _network(world: World, vm: Struct, here: DatacenterSettings) -> Iterator[str]:
    connection = world.service.host.connection
    for one in world.service.datacenters:
        held = {
            entry.mac: {entry.ipv4, entry.ipv6} - {None} for entry in reservations(connection, one.network)
        }
        for iface in vm["ifaces"]:
            wanted = {ip_address(ip["ip"]) for ip in iface["ips"]} if one == here else None
            mac = _macs(world, vm["id"])[f"ua-iface-{iface['id']}"]
            if held.get(mac) != wanted:
                yield f"network {one.network} reserves {held.get(mac)} and not {wanted}"
    domain = world.service.domain(vm["id"])
    if domain.isActive():
        for tap in bridge.taps(domain.XMLDesc()).values():
            if tap not in bridge.ports(here.bridge):
                yield f"{tap} is not on {here.bridge}"


def _macs(world: World, vm_id: int) -> dict[str, str]:
    root = etree.fromstring(world.service.domain(vm_id).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).encode())
    found = {}
    for card in root.iterfind("devices/interface"):
        alias, mac = card.find("alias"), card.find("mac")
        assert alias is not None
        assert mac is not None
        found[alias.get("name", "")] = mac.get("address", "")
    return found


def volume(world: World, disk_id: int) -> Path:
    """The one file of the disk."""
    (found,) = world.service.pools.glob(f"*/disk-{disk_id}-*")
    return found


def check_filesystem(disk: Path, folder: Path) -> str:
    """Let e2fsck look at the last partition of the disk, or at all of it when it has none; what it says.

    Fails when it finds anything. The disk must not be in use.
    """
    raw = folder / f"{disk.stem}.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True)
    table = subprocess.run(["sfdisk", "--json", raw], check=False, capture_output=True)
    offset = 0
    if table.returncode == 0:
        found = json.loads(table.stdout)["partitiontable"]
        offset = found["partitions"][-1]["start"] * found.get("sectorsize", 512)
    done = subprocess.run(
        ["e2fsck", "-f", "-n", f"{raw}?offset={offset}"], check=False, capture_output=True, text=True
    )
    raw.unlink()
    assert done.returncode == 0, f"{disk}: {done.stdout}{done.stderr}"
    return done.stdout
