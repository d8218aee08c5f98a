"""Snapshots by profile: taken once in each period of a schedule, the oldest beyond the kept ones deleted."""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sqlalchemy import String, cast, literal, select
from sqlalchemy.orm import Session

from api.operations import quota
from api.operations.disk import volume_name
from api.operations.jobs import Jobs, Origin, Planned, migrating
from api.operations.quota import LimitReached
from api.settings import AccountLimits, ScheduleSettings, SnapshotProfileSettings
from api.store.database import Store
from api.store.models import Account, Disk, now

log = logging.getLogger(__name__)

_ORIGIN = "snapshot profile"
_UNLIMITED = AccountLimits()


def period(moment: datetime, every: int) -> int:
    """The number of the period of `every` seconds that the UTC `moment` is in."""
    return int(moment.replace(tzinfo=UTC).timestamp()) // every


class Schedules:
    """Takes snapshots as the profiles of the disks say."""

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        profiles: Sequence[SnapshotProfileSettings],
        clock: Callable[[], datetime] = now,
        limits: AccountLimits = _UNLIMITED,
    ) -> None:
        """`limits` are those of an account that has none of its own; what is over them is not taken."""
        self._store = store
        self._jobs = jobs
        self._profiles = {profile.id: profile for profile in profiles}
        self._clock = clock
        self._limits = limits
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        shortest = min(
            (one.every for each in self._profiles.values() for one in each.schedules), default=3600
        )
        while True:
            try:
                self.tick()
            except Exception:
                log.exception("snapshots by profile failed; they are tried again in the next period")
            elapsed = int(self._clock().replace(tzinfo=UTC).timestamp()) % shortest
            if self._ending.wait(shortest - elapsed):
                return

    def tick(self) -> None:
        """Take the snapshots that are due now, and delete those that are too many."""
        moment = self._clock()
        with self._store.writing() as session:
            disks = session.scalars(
                select(Disk).where(
                    Disk.snapshot_profile_id.in_(self._profiles),
                    Disk.type == "data",
                    Disk.state == "created",
                    # what is to move takes along the snapshots that it had when that was accepted
                    (literal("disk:") + cast(Disk.id, String)).not_in(migrating()),
                )
            ).all()
            for disk in disks:
                for schedule in self._profiles[disk.snapshot_profile_id or 0].schedules:
                    self._follow(session, disk, schedule, moment)

    def _follow(self, session: Session, disk: Disk, schedule: ScheduleSettings, moment: datetime) -> None:
        versions = list(
            session.scalars(
                select(Disk)
                .where(Disk.source_id == disk.id, Disk.type == "snapshot", Disk.schedule == schedule.name)
                .order_by(Disk.date_created.desc(), Disk.id.desc())
            )
        )
        current = period(moment, schedule.every)
        due = not versions or period(versions[0].date_created, schedule.every) < current
        if due:
            size = quota.coming_size(session, disk)
            if self._may(session, disk, schedule, size):
                versions.insert(0, self._take(session, disk, schedule, size, moment))
        for old in versions[schedule.kept :]:
            self._submit(session, old, "disk_delete", [f"disk:{old.id}"])

    def _may(self, session: Session, disk: Disk, schedule: ScheduleSettings, size: int) -> bool:
        if disk.account_id is None:
            return False
        try:
            quota.reserve(session, disk.account_id, self._limits, disk=size)
        except LimitReached as reached:
            log.warning("no snapshot %r is taken of disk#%d: %s", schedule.name, disk.id, reached)
            return False
        return True

    def _take(
        self, session: Session, disk: Disk, schedule: ScheduleSettings, size: int, moment: datetime
    ) -> Disk:
        snapshot = Disk(
            account_id=disk.account_id,
            datacenter_id=disk.datacenter_id,
            name=f"{disk.name}_{schedule.name}_{moment:%Y%m%dT%H%M%S}"[:255],
            size=size,
            type="snapshot",
            label=disk.label,
            source_id=disk.id,
            kernel_version=disk.kernel_version,
            kernel_cmdline=disk.kernel_cmdline,
            schedule=schedule.name,
            date_created=moment,
            volume="",
        )
        session.add(snapshot)
        session.flush()
        snapshot.volume = volume_name(snapshot)
        claims = [f"disk:{snapshot.id}", f"disk:{disk.id}"]
        if disk.vm_id is not None:
            claims.append(f"vm:{disk.vm_id}")
        self._submit(session, snapshot, "disk_create", claims)
        return snapshot

    def _submit(self, session: Session, disk: Disk, workflow: str, claims: list[str]) -> None:
        origin = Origin(session.get_one(Account, disk.account_id), _ORIGIN)
        planned = [Planned(workflow, disk_id=disk.id)]
        self._jobs.submit(session, origin, workflow, {"disk_id": disk.id}, planned, claims)
