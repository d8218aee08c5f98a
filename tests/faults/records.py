"""The records as they are in the file, read without the service's code."""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]

ENDED = ("DONE", "ERROR", "CANCEL")
_TABLES = ("vm", "disk", "iface", "ip", "datacenter", "image", "job", "operation", "claim")


@dataclass(frozen=True)
class Records:
    """All rows that matter, by table."""

    vm: list[Row]
    disk: list[Row]
    iface: list[Row]
    ip: list[Row]
    datacenter: list[Row]
    image: list[Row]
    job: list[Row]
    operation: list[Row]
    claim: list[Row]

    @classmethod
    def read(cls, state: Path) -> "Records":
        """The records of the service with that state folder, all of one moment."""
        with closing(sqlite3.connect(state / "store.db", timeout=30)) as database:
            database.row_factory = sqlite3.Row
            database.execute("BEGIN")
            return cls(**{
                table: [dict(row) for row in database.execute(f"SELECT * FROM {table}")]
                for table in _TABLES
            })  # fmt: skip

    @property
    def unfinished(self) -> list[Row]:
        """Operations that have not ended."""
        return [one for one in self.operation if one["step"] not in ENDED]

    @property
    def living(self) -> list[Row]:
        """Machines that were not deleted."""
        return [one for one in self.vm if one["state"] != "deleted"]

    @property
    def objects(self) -> dict[str, set[int]]:
        """The ids of what there is."""
        return {
            "vm": {one["id"] for one in self.living},
            "disk": {one["id"] for one in self.disk if one["account_id"] is not None},
            "iface": {one["id"] for one in self.iface},
        }

    def volume(self, disk: Row, pools: Path) -> Path:
        """The file of a disk."""
        return pools / str(self.place(disk)["pool"]) / str(disk["volume"])

    def place(self, one: Row) -> Row:
        """The datacenter that it is in."""
        return next(place for place in self.datacenter if place["id"] == one["datacenter_id"])

    def jobs_after(self, job_id: int) -> list[tuple[Row, list[Row]]]:
        """The jobs that came after that one, each with its arguments and its operations, in their order."""
        found = []
        for job in sorted(self.job, key=lambda one: int(one["id"])):
            if job["id"] > job_id:
                mine = [one for one in self.operation if one["job_id"] == job["id"]]
                found.append(({**job, "arguments": json.loads(job["arguments"])}, mine))
        return found
