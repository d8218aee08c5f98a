"""What must be there, by what was promised and what became of it: objects, and the bytes in the disks."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import canary
from tests.faults.records import Records, Row


@dataclass
class Book:
    """The objects after the last look, and the pattern that each disk holds."""

    objects: dict[str, set[int]] = field(default_factory=lambda: {"vm": set(), "disk": set(), "iface": set()})
    patterns: dict[int, int] = field(default_factory=dict)
    last_job: int = 0
    # what each machine has had since the last look
    devices: dict[int, set[tuple[str, int]]] = field(default_factory=dict)

    def follow(self, records: Records) -> None:
        """Take the jobs since the last look into account: done ones have had all of their effect, others
        none."""
        disks = {one["id"]: one for one in records.disk}
        ended = []
        for job, operations in records.jobs_after(self.last_job):
            self.last_job = job["id"]
            if all(one["step"] == "DONE" for one in operations):
                self._apply(job["workflow"], job["arguments"], disks)
                ended += [job["arguments"]["vm_id"]] if job["workflow"] == "vm_delete" else []
        for vm_id in ended:
            self._go_along(vm_id, records)
        self.devices = {}
        for kind, rows in (("disk", records.disk), ("iface", records.iface)):
            for one in (row for row in rows if row["vm_id"] is not None):
                self.devices.setdefault(one["vm_id"], set()).add((kind, one["id"]))

    def _go_along(self, vm_id: int, records: Records) -> None:
        """A machine that was deleted takes one of its disks and one of its interfaces along, no more."""
        for kind in ("disk", "iface"):
            had = {one for name, one in self.devices.get(vm_id, ()) if name == kind}
            gone = (had & self.objects[kind]) - records.objects[kind]
            if len(gone) == 1:
                self.objects[kind] -= gone

    def _apply(self, workflow: str, given: Row, disks: dict[int, Row]) -> None:
        kinds = [kind for kind in self.objects if given.get(f"{kind}_id") is not None]
        for kind, name in (("disk", "disk_id"), ("disk", "new_id"), ("iface", "iface_id")):
            if given.get("vm_id") is not None and given.get(name) is not None:
                self.devices.setdefault(given["vm_id"], set()).add((kind, given[name]))
        if workflow in ("vm_create", "disk_create", "iface_create"):
            for kind in kinds:
                self.objects[kind].add(given[f"{kind}_id"])
            self._inherit(given.get("disk_id"), disks)
        elif workflow in ("vm_delete", "disk_delete", "iface_delete"):
            for kind in kinds:
                self.objects[kind].discard(given[f"{kind}_id"])
        elif workflow == "disk_rollback":
            self.objects["disk"] ^= {given["old_id"], given["new_id"]}
            self._inherit(given["new_id"], disks)
        elif workflow == "disk_rollback_from":
            self._take_over(given["disk_id"], given["snapshot_id"])

    def _inherit(self, disk_id: int | None, disks: dict[int, Row]) -> None:
        # of one that is gone again nobody knows what it was made from
        if disk_id in disks:
            self._take_over(disk_id, disks[disk_id]["source_id"])

    def _take_over(self, disk_id: int, source_id: int | None) -> None:
        self.patterns.pop(disk_id, None)
        if source_id in self.patterns:
            self.patterns[disk_id] = self.patterns[source_id]

    def missing(self, records: Records) -> Iterator[str]:
        """Objects that must be there and are not."""
        for kind, ids in self.objects.items():
            yield from (f"{kind}#{one} has no record" for one in sorted(ids - records.objects[kind]))

    def surplus(self, records: Records) -> Iterator[str]:
        """Objects that nothing that was done has made."""
        for kind, ids in self.objects.items():
            yield from (f"{kind}#{one} has a record" for one in sorted(records.objects[kind] - ids))

    def changed(self, records: Records, pools: Path) -> Iterator[str]:
        """Disks that do not hold what they must."""
        for disk in records.disk:
            pattern, file = self.patterns.get(disk["id"]), records.volume(disk, pools)
            if pattern is not None and file.exists() and not canary.holds(file, pattern):
                yield f"the data of disk#{disk['id']} ({file.name}) is not what it was"

    def stamp(self, records: Records, pools: Path, chance: random.Random) -> None:
        """Write into disks that nobody has open: those that hold nothing yet, and some of the others anew, so
        that they differ from their snapshots."""
        running = {one["id"] for one in records.living if one["state"] != "halted"}
        for disk in records.disk:
            known = self.patterns.get(disk["id"])
            if disk["account_id"] is None or disk["type"] == "snapshot" or disk["vm_id"] in running:
                continue
            if known is None or chance.random() < 0.2:
                self.patterns[disk["id"]] = chance.randrange(1, 256)
                canary.stamp(records.volume(disk, pools), self.patterns[disk["id"]])
