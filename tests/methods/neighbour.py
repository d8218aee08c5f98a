"""Another account with objects in every state, and what never existed beside them."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from api.operations.jobs import Planned
from api.store.models import Job
from tests.methods.world import ALICE, BOB, World

NEVER = 9999
"""An id that no object ever had, of as many digits as those that there are."""

# where the ids of each table begin: no id means two things, and none is a size that a VM can have
_BEGIN = {
    "vm": 1100,
    "disk": 1220,
    "iface": 1300,
    "ip": 1420,
    "vlan": 1540,
    "ssh_key": 1610,
    "operation": 1670,
    "job": 1740,
    "image": 1800,
    "vm_trigger": 1860,
}
_BOBS_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
_MY_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


@dataclass(frozen=True)
class Neighbour:
    """Bob, as Alice may try him: his `ids` by kind, his `names` with one of the same form that nothing has,
    and `sets` of his objects that belong together, by kind; `own` is one of hers of each kind."""

    ids: dict[str, list[int]]
    names: dict[str, str]
    sets: list[dict[str, int]]
    own: dict[str, int]

    def tried(self, kind: str | None) -> list[int]:
        """His ids for a place that takes `kind`: all of that, and one of every other."""
        # both are rows of one table
        alike = {"disk", "snapshot"} if kind in ("disk", "snapshot") else {kind}
        return sorted(one for each, ids in self.ids.items() for one in (ids if each in alike else ids[:1]))


def neighbour(world: World) -> Neighbour:
    """Make the objects of both."""
    with world.store.writing() as session:
        for table, number in _BEGIN.items():
            session.execute(text("DELETE FROM sqlite_sequence WHERE name = :table"), {"table": table})
            session.execute(
                text("INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :number)"),
                {"table": table, "number": number},
            )
    image = world.image("Tiny")
    ids, sets, names = _bobs(world)
    found = Neighbour(ids, names, sets, {**_own(world), "image": image.id, "datacenter": 1})
    for one in (NEVER, *(one for each in ids.values() for one in each)):
        assert one % 64, f"{one} could be a size"
        assert len(str(one)) == len(str(NEVER))
    return found


def _bobs(world: World) -> tuple[dict[str, list[int]], list[dict[str, int]], dict[str, str]]:
    states = ("running", "halted", "paused", "locked", "being_created", "deleted")
    vms = [world.vm("bobs-host", BOB, state, farm="bobs-farm", description="bobs-note") for state in states]
    moving = world.vm("bobs-other", BOB, "running", is_migrating=True)
    its = world.disk("bobs-moving", BOB, vm_id=moving.id, position=0)
    card = world.iface(BOB, (), vm_id=moving.id, num=0, state="used")
    free, lan = world.disk("bobs-disk", BOB), world.vlan("bobs-lan", BOB)
    system = world.disk("bobs-sys", BOB, vm_id=vms[0].id, position=0)
    data = world.disk("bobs-data", BOB, vm_id=vms[1].id, position=1)
    making, going = world.disk("bobs-new", BOB, state="being_created"), world.disk("bobs-old", BOB)
    snapshots = [
        world.disk(f"bobs-snap-{one.id}", BOB, type="snapshot", source_id=one.id)
        for one in (free, system, data)
    ]
    unused = world.iface(BOB, ("192.0.2.7", "2001:db8::7"))
    attached = world.iface(BOB, ("192.0.2.8", "2001:db8::8"), vm_id=vms[0].id, num=0, state="used")
    private = world.iface(BOB, (), vlan_id=lan.id)
    ip = world.call("hosting.ip.list", {"ip": "192.0.2.7"}, key=BOB)[0]["id"]
    world.call("hosting.ip.update", ip, {"reverse": "bobs.example"}, key=BOB)
    ssh = world.call("hosting.ssh.create", {"name": "bobs-key", "value": _BOBS_KEY}, key=BOB)
    world.job(Planned("vm_stop", vm_id=vms[0].id), key=BOB, claims=(f"vm:{vms[0].id}",))
    world.job(Planned("disk_delete", disk_id=going.id), key=BOB, claims=(f"disk:{going.id}",))
    under_way = world.job(
        Planned("hosting_migration_vm", vm_id=moving.id, params={"from_dc_id": 1, "to_dc_id": 2}),
        key=BOB,
        claims=(f"vm:{moving.id}", f"disk:{its.id}", f"iface:{card.id}"),
    )
    world.change(under_way[0], step="RUN")
    world.change(world.get(Job, under_way[0].job_id), workflow="hosting_migration_vm")
    (done,) = world.job(Planned("vm_reboot", vm_id=vms[1].id), key=BOB)
    world.change(done, step="DONE")
    ids = {
        "vm": [*(one.id for one in vms), moving.id],
        "disk": [one.id for one in (free, system, data, making, going, its)],
        "snapshot": [one.id for one in snapshots],
        "iface": [one.id for one in (unused, attached, private, card)],
        "ip": [one["id"] for one in world.call("hosting.ip.list", key=BOB)],
        "vlan": [lan.id, world.vlan("bobs-wan", BOB).id],
        "key": [ssh["id"]],
        "operation": [one["id"] for one in world.call("operation.list", key=BOB)],
    }
    common = {kind: found[0] for kind, found in ids.items()}
    sets = [
        common,
        common | {"disk": system.id, "snapshot": snapshots[1].id, "iface": attached.id},
        common | {"vm": vms[1].id, "disk": data.id, "snapshot": snapshots[2].id},
        common | {"vm": vms[1].id, "disk": free.id, "iface": unused.id},
        common | {"vm": moving.id, "disk": its.id, "iface": card.id, "operation": under_way[0].id},
    ]
    return ids, sets, _names(ssh["fingerprint"])


def _names(fingerprint: str) -> dict[str, str]:
    bobs = ("bobs-host", "bobs-farm", "bobs-disk", "bobs-snap", "bobs-lan", "bobs-key", "bobs.example")
    return {
        **{one: one.replace("bobs", "none") for one in bobs},
        "BOB-GANDI": "ZOE-GANDI",
        "192.0.2.7": "192.0.2.9",
        "2001:db8::7": "2001:db8::9",
        fingerprint: "00" + fingerprint[2:],
    }


def _own(world: World) -> dict[str, Any]:
    disk, vm = world.disk("mine", ALICE), world.vm("mine", ALICE)
    world.disk("my-sys", ALICE, vm_id=vm.id, position=0)
    iface = world.iface(ALICE, ("192.0.2.3", "2001:db8::3"))
    (operation,) = world.job(Planned("vm_stop"), key=ALICE)
    return {
        "vm": vm.id,
        "disk": disk.id,
        "snapshot": world.disk("my-snap", ALICE, type="snapshot", source_id=disk.id).id,
        "iface": iface.id,
        "ip": world.call("hosting.ip.list", {"iface_id": iface.id})[0]["id"],
        "vlan": world.vlan("my-lan", ALICE).id,
        "key": world.call("hosting.ssh.create", {"name": "mine", "value": _MY_KEY})["id"],
        "operation": operation.id,
    }
