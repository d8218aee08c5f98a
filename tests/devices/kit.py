"""Disks, interfaces and machines for the tests of this folder, in few words."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import libvirt
from lxml import etree

from tests.conftest import Reach
from tests.service.client import Client, Struct
from tests.service.guest import Guest, Identity
from tests.service.process import Service
from tests.service.waiting import until


@dataclass(frozen=True)
class World:
    """A running service with its first account's client."""

    service: Service
    client: Client
    identity: Identity
    reach: Reach

    @cached_property
    def here(self) -> int:
        """The first datacenter."""
        return int(self.client.image()["datacenter_id"])

    @cached_property
    def image(self) -> int:
        """The disk of the tiny image."""
        return int(self.client.image()["disk_id"])

    def vms(self, *specs: Struct) -> list[Struct]:
        """Running machines, made side by side."""
        asked = [self.client.create_from({"ssh_key": self.identity.public, **spec}) for spec in specs]
        for operations in asked:
            self.client.done(operations)
        return [self.client.vm(operations[-1]["vm_id"]) for operations in asked]

    def disks(self, count: int, **spec: object) -> list[int]:
        """Empty disks of 1 GiB, free."""
        made = [
            self.client.call("hosting.disk.create", {"datacenter_id": self.here, "size": 1024, **spec})
            for _ in range(count)
        ]
        self.client.done(made)
        return [one["disk_id"] for one in made]

    def copy(self, source: int, **spec: object) -> int:
        """A disk made from `source`, free."""
        made = self.client.call("hosting.disk.create_from", dict(spec), source)
        self.client.done(made)
        return int(made["disk_id"])

    def ifaces(self, *specs: Struct) -> list[Struct]:
        """Interfaces, free."""
        made = [
            self.client.call("hosting.iface.create", {"datacenter_id": self.here, **one}) for one in specs
        ]
        self.client.done(made)
        return [self.client.call("hosting.iface.info", one["iface_id"]) for one in made]

    def do(self, method: str, *arguments: object) -> Struct:
        """Call a method of hosting.vm that answers with one operation; the operation, DONE."""
        return self.client.done(self.client.call(f"hosting.vm.{method}", *arguments))[0]

    def power_off(self, vm_id: int) -> None:
        """Cut the machine off, as fast as that can be done."""
        if self.service.domain(vm_id).isActive():
            self.service.domain(vm_id).destroy()
        self.client.in_state(vm_id, "halted")

    def disk(self, disk_id: int) -> Struct:
        """What hosting.disk.info says."""
        found: Struct = self.client.call("hosting.disk.info", disk_id)
        return found

    def discard(self, *vm_ids: int) -> None:
        """Cut the machines off and delete them, with everything that was attached to them."""
        disks = {disk for one in vm_ids for disk in self.client.vm(one)["disks_id"]}
        ifaces = {iface for one in vm_ids for iface in self.client.vm(one)["ifaces_id"]}
        self.service.discard(self.client, *vm_ids)
        self.throw_away(disks=disks, ifaces=ifaces)

    def throw_away(self, disks: Iterable[int] = (), ifaces: Iterable[int] = ()) -> None:
        """Delete free disks and interfaces that are still there."""
        gone = {"disk": set(disks), "iface": set(ifaces)}
        left = [
            (kind, one["id"])
            for kind, ids in gone.items()
            if ids
            for one in self.client.call(f"hosting.{kind}.list", {"id": sorted(ids)})
        ]
        self.client.done([self.client.call(f"hosting.{kind}.delete", one) for kind, one in left])


def targets(service: Service, vm_id: int, *, live: bool) -> dict[str, str]:
    """Where the disks of the domain are, by alias: as it runs, or as it starts the next time."""
    flags = 0 if live else libvirt.VIR_DOMAIN_XML_INACTIVE
    root = etree.fromstring(service.domain(vm_id).XMLDesc(flags).encode())
    found = {}
    for device in root.iterfind("devices/*"):
        alias, target = device.find("alias"), device.find("target")
        if device.tag in ("disk", "interface") and alias is not None:
            found[alias.get("name", "")] = "" if target is None else target.get("dev", "")
    return found


def block_device(guest: Guest, disk_id: int, seconds: float = 20) -> str:
    """The guest's name of the disk, once it is there."""
    return until(
        lambda: serials(guest).get(f"disk-{disk_id}", ""),
        seconds,
        lambda: f"disk-{disk_id}: {serials(guest)}",
    )


def serials(guest: Guest) -> dict[str, str]:
    """The guest's names of its disks, by serial."""
    lines = guest.run("cd /sys/block; for d in vd*; do echo $(cat $d/serial) $d; done").splitlines()
    return {line.split()[0]: line.split()[1] for line in lines if len(line.split()) == 2}


def root_disk(guest: Guest) -> str:
    """The serial of the disk that the guest runs from."""
    name = guest.run("awk '$2 == \"/\" {print $1}' /proc/mounts").removeprefix("/dev/").rstrip("0123456789")
    return guest.run(f"cat /sys/block/{name}/serial")
