"""Calls on several machines at once, chosen by chance from what is possible at the moment."""

import http.client
import random
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.service.client import Client, Struct

Call = tuple[str, tuple[Any, ...]]

SIZE = 1024  # MiB
_MOST = {"vm": 4, "disk": 10, "snapshot": 6, "iface": 8}
_FINALIZE = "wait_finalize"


@dataclass
class View:
    """What there is, as a client sees it."""

    vms: list[Struct]
    disks: list[Struct]
    ifaces: list[Struct]
    images: dict[int, int]  # the image's disk by datacenter

    @classmethod
    def take(cls, client: Client) -> "View":
        """The view now."""
        every = {"items_per_page": 500}
        return cls(
            client.call("hosting.vm.list", every),
            client.call("hosting.disk.list", every),
            client.call("hosting.iface.list", every),
            {
                one["datacenter_id"]: one["disk_id"]
                for one in client.call("hosting.image.list", {"label": "Tiny"})
            },
        )

    def free(self, kind: str = "data") -> list[Struct]:
        """Disks of that kind that no machine has."""
        return [one for one in self.disks if not one["vms_id"] and one["type"] == kind]

    def snapshots(self, *, attached: bool) -> list[Struct]:
        """Snapshots of disks that are there."""
        disks = {one["id"]: bool(one["vms_id"]) for one in self.disks}
        return [
            one for one in self.disks if one["type"] == "snapshot" and disks.get(one["source"]) is attached
        ]


Choice = Callable[[View, random.Random], Iterator[Call]]


def _create(view: View, chance: random.Random) -> Iterator[Call]:
    if len(view.vms) < _MOST["vm"]:
        here = chance.choice(sorted(view.images))
        spec = {"hostname": f"h{chance.randrange(10**6)}", "datacenter_id": here}
        spec |= {"memory": 128, "vm_max_memory": 256, "ip_version": chance.choice([4, 6])}
        yield "hosting.vm.create_from", (spec, {"datacenter_id": here}, view.images[here])


def _create_on_disk(view: View, _chance: random.Random) -> Iterator[Call]:
    # one that holds a system: it was made from an image
    if len(view.vms) < _MOST["vm"]:
        for disk in view.free():
            if disk["source"] in view.images.values():
                spec = {
                    "hostname": "again",
                    "datacenter_id": disk["datacenter_id"],
                    "sys_disk_id": disk["id"],
                }
                yield "hosting.vm.create", ({**spec, "memory": 128, "vm_max_memory": 128},)


def _switch(method: str, state: str) -> Choice:
    def choose(view: View, _chance: random.Random) -> Iterator[Call]:
        for vm in view.vms:
            if vm["state"] == state:
                yield f"hosting.vm.{method}", (vm["id"],)

    return choose


def _update(view: View, chance: random.Random) -> Iterator[Call]:
    for vm in view.vms:
        change = chance.choice([{"cores": 1}, {"cores": 2}, {"memory": 128}, {"memory": 192}])
        yield "hosting.vm.update", (vm["id"], change)


def _new_disk(view: View, chance: random.Random) -> Iterator[Call]:
    if sum(one["type"] == "data" for one in view.disks) < _MOST["disk"]:
        here = chance.choice(sorted(view.images))
        yield "hosting.disk.create", ({"datacenter_id": here, "size": SIZE},)
        yield "hosting.disk.create_from", ({}, view.images[here])
        for disk in view.disks:
            yield "hosting.disk.create_from", ({}, disk["id"])


def _snapshot(view: View, _chance: random.Random) -> Iterator[Call]:
    if sum(one["type"] == "snapshot" for one in view.disks) < _MOST["snapshot"]:
        for disk in view.disks:
            if disk["type"] == "data":
                yield "hosting.disk.create_from", ({"type": "snapshot"}, disk["id"])


def _change_disk(view: View, _chance: random.Random) -> Iterator[Call]:
    for disk in view.disks:
        if disk["type"] == "data":
            size = min(disk["size"] + SIZE, 4 * SIZE)
            yield "hosting.disk.update", (disk["id"], {"size": size, "name": f"of {size}"})


def _delete_disk(view: View, _chance: random.Random) -> Iterator[Call]:
    for disk in [*view.free(), *view.free("snapshot")]:
        yield "hosting.disk.delete", (disk["id"],)


def _roll_back(view: View, _chance: random.Random) -> Iterator[Call]:
    for snapshot in view.snapshots(attached=True):
        yield "hosting.vm.disk_rollback", (snapshot["id"],)
    for snapshot in view.snapshots(attached=False):
        yield "hosting.disk.rollback_from", (snapshot["id"],)


def _attach_disk(view: View, chance: random.Random) -> Iterator[Call]:
    for vm in view.vms:
        for disk in view.free():
            if disk["datacenter_id"] == vm["datacenter_id"]:
                access = {"access": chance.choice(["read", "read/write"])}
                yield "hosting.vm.disk_attach", (vm["id"], disk["id"], access)


def _detach_disk(view: View, _chance: random.Random) -> Iterator[Call]:
    for disk in view.disks:
        if disk["vms_id"] and not disk["is_boot_disk"]:
            yield "hosting.vm.disk_detach", (disk["vms_id"][0], disk["id"])


def _new_iface(view: View, chance: random.Random) -> Iterator[Call]:
    if len(view.ifaces) < _MOST["iface"]:
        spec = {"datacenter_id": chance.choice(sorted(view.images)), "ip_version": chance.choice([4, 6])}
        yield "hosting.iface.create", (spec,)


def _change_iface(view: View, chance: random.Random) -> Iterator[Call]:
    for iface in view.ifaces:
        yield "hosting.iface.update", (iface["id"], {"bandwidth": chance.choice([2048.0, 102400.0])})


def _plug_iface(view: View, _chance: random.Random) -> Iterator[Call]:
    for iface in view.ifaces:
        if iface["vm_id"] is not None:
            yield "hosting.vm.iface_detach", (iface["vm_id"], iface["id"])
        else:
            for vm in view.vms:
                if vm["datacenter_id"] == iface["datacenter_id"]:
                    yield "hosting.vm.iface_attach", (vm["id"], iface["id"])


def _delete_iface(view: View, _chance: random.Random) -> Iterator[Call]:
    for iface in view.ifaces:
        if iface["vm_id"] is None:
            yield "hosting.iface.delete", (iface["id"],)


def _migrate(view: View, _chance: random.Random) -> Iterator[Call]:
    for vm in view.vms:
        yield "hosting.vm.migrate", (vm["id"],)


def _migrate_detached(view: View, _chance: random.Random) -> Iterator[Call]:
    def other(one: Struct) -> int:
        return next(place for place in view.images if place != one["datacenter_id"])

    for disk in view.free():
        yield "hosting.disk.migrate", (disk["id"], other(disk))
    for iface in view.ifaces:
        if iface["vm_id"] is None:
            yield "hosting.iface.migrate", (iface["id"], other(iface))


# how often each is chosen: seldom what boots a guest, which costs seconds of the processor
WORK: dict[str, tuple[int, Choice]] = {
    "create": (2, _create),
    "create on a disk": (1, _create_on_disk),
    "start": (1, _switch("start", "halted")),
    "stop": (2, _switch("stop", "running")),
    "reboot": (1, _switch("reboot", "running")),
    "delete": (1, _switch("delete", "halted")),
    "update": (2, _update),
    "new disk": (4, _new_disk),
    "snapshot": (3, _snapshot),
    "change a disk": (2, _change_disk),
    "delete a disk": (2, _delete_disk),
    "roll back": (2, _roll_back),
    "attach a disk": (4, _attach_disk),
    "detach a disk": (4, _detach_disk),
    "new iface": (2, _new_iface),
    "change an iface": (1, _change_iface),
    "plug an iface": (4, _plug_iface),
    "delete an iface": (1, _delete_iface),
    "migrate": (2, _migrate),
    "migrate what is detached": (2, _migrate_detached),
}


def choose(view: View, chance: random.Random, kind: str | None = None) -> Call | None:
    """One call that is possible, of the `kind` or of any; None when there is none."""
    kinds = [kind] if kind else chance.choices(list(WORK), [weight for weight, _ in WORK.values()], k=12)
    for one in kinds:
        possible = list(WORK[one][1](view, chance))
        if possible:
            return chance.choice(possible)
    return None


@dataclass
class Workload:
    """Makes calls; `accepted` are the operations that were promised."""

    client: Client
    chance: random.Random
    accepted: list[Struct] = field(default_factory=list)
    refused: int = 0
    unanswered: int = 0

    def ask(self, calls: int, kind: str | None = None) -> None:
        """Make that many calls, without waiting for what they begin; ends when nobody answers any more."""
        for _ in range(calls):
            try:
                found = choose(View.take(self.client), self.chance, kind)
                if found is not None:
                    self.call(*found)
            except xmlrpc.client.Fault:
                # of what looks possible much is not, because of what is under way
                self.refused += 1
            except (OSError, http.client.HTTPException):
                self.unanswered += 1
                return

    def call(self, method: str, arguments: tuple[Any, ...]) -> None:
        """Make one call."""
        answer = self.client.call(method, *arguments)
        self.accepted += answer if isinstance(answer, list) else [answer]

    def finish_moves(self) -> None:
        """Tell each migration that waits for it to end, one way or the other."""
        for one in self.client.call("operation.list", {"step": "RUN", "type": "hosting_migration_vm"}):
            if one["params"].get("inner_step") == _FINALIZE:
                told = random.Random(f"{self.chance.random()} {one['id']}").random()
                # it may have ended, or been told, meanwhile
                with suppress(xmlrpc.client.Fault):
                    if told < 0.6:
                        self.client.call("hosting.vm.migrate", one["vm_id"], True)
                    else:
                        self.client.call("operation.cancel", one["id"])
