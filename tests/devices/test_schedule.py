"""Snapshot profiles, their clock advanced hour by hour over the records and the queue of a real service."""

import json
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from api.operations.jobs import Jobs
from api.operations.schedule import Schedules
from api.settings import ScheduleSettings, SnapshotProfileSettings
from api.store.database import Store
from api.store.models import Claim, Disk
from tests.conftest import NewService
from tests.devices.kit import World
from tests.service.client import Client
from tests.service.process import Service
from tests.service.waiting import until

pytestmark = pytest.mark.guest

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# the service itself never comes to its turn
NEVER = 10**9


def profile(hour: int, day: int) -> SnapshotProfileSettings:
    """`hourly`, three kept, and `daily`, two kept; their lengths in seconds."""
    return SnapshotProfileSettings(
        id=7,
        name="both",
        quota_factor=1.5,
        schedules=(
            ScheduleSettings(name="hourly", every=hour, kept=3),
            ScheduleSettings(name="daily", every=day, kept=2),
        ),
    )


def test_the_profiles_of_the_reference_are_listed(world: World) -> None:
    listed = world.client.call("hosting.snapshotprofile.list")
    assert [(one["id"], one["name"], one["kept_total"], one["quota_factor"]) for one in listed] == [
        (1, "minimal", 2, 1.2),
        (2, "full_week", 7, 1.7),
        (3, "security", 10, 2.0),
    ]
    assert listed[2]["schedules"] == [
        {"name": "hourly6", "kept_version": 3},
        {"name": "daily", "kept_version": 6},
        {"name": "weekly4", "kept_version": 1},
    ]
    assert world.client.call("hosting.snapshotprofile.list", {"name": "minimal"}) == listed[:1]
    assert world.client.call("hosting.snapshotprofile.list", {"id": [2, 3]}) == listed[1:]
    spec = {"datacenter_id": world.here, "size": 1024, "snapshot_profile": 99}
    assert world.client.refusal("hosting.disk.create", spec).faultCode == 537842


def taken(store: Store, schedule: str) -> list[datetime]:
    """When the snapshots of the schedule were taken, those that are there."""
    with store.reading() as session:
        query = select(Disk.date_created).where(Disk.schedule == schedule).order_by(Disk.date_created)
        return list(session.scalars(query))


def follow(service: Service, client: Client, here: int, store: Store, watched: int) -> None:
    other = client.call("hosting.disk.create", {"datacenter_id": here, "size": 1024, "name": "wakes"})
    client.done(other)
    clock = [datetime(2026, 3, 1, 20, 30)]  # noqa: DTZ001 - the records are in UTC without a zone
    schedules = Schedules(
        store, Jobs(lambda: None, lambda _job: None), [profile(3600, 86400)], lambda: clock[0]
    )

    def settled() -> bool:
        with store.reading() as session:
            return session.scalar(select(Claim.job_id).limit(1)) is None

    def tick(by: timedelta) -> None:
        clock[0] += by
        schedules.tick()
        # the queue is another process's: the next call wakes it
        client.done(client.call("hosting.disk.update", other["disk_id"], {"name": "wakes"}))
        until(settled, 30, "the snapshots are taken")

    begin = clock[0]
    hours = 30
    for number in range(hours):
        tick(HOUR if number else timedelta())
        expected = [begin + HOUR * one for one in range(max(0, number - 2), number + 1)]
        assert taken(store, "hourly") == expected
    last = begin + HOUR * (hours - 1)
    midnights = [datetime(2026, 3, day, 0, 30) for day in (2, 3)]  # noqa: DTZ001 - the same
    assert last > midnights[-1]
    assert taken(store, "daily") == midnights
    # in the same hour nothing is taken twice
    tick(timedelta(minutes=20))
    assert taken(store, "hourly")[-1] == last
    # hours without service are not made up for
    tick(timedelta(hours=5))
    assert len(taken(store, "hourly")) == 3
    assert taken(store, "hourly")[-1] == last + timedelta(hours=5, minutes=20)

    shown = client.call("hosting.disk.info", watched)
    snapshots = client.call("hosting.disk.list", {"type": "snapshot", "source": watched})
    assert sorted(one["id"] for one in snapshots) == shown["snapshots_id"]
    assert len(snapshots) == 5
    assert {one["state"] for one in snapshots} == {"created"}
    assert shown["snapshot_profile"]["name"] == "both"
    files = {int(file.name.split("-")[1]) for file in service.pools.glob("*/disk-*")}
    assert files == {watched, other["disk_id"], *shown["snapshots_id"]}
    # without its profile a disk is left alone, and keeps what it has
    client.done(client.call("hosting.disk.update", watched, {"snapshot_profile": ""}))
    tick(DAY)
    assert client.call("hosting.disk.info", watched)["snapshots_id"] == shown["snapshots_id"]


def test_the_right_versions_are_kept(new_service: NewService) -> None:
    profiles = json.dumps([profile(NEVER, NEVER).model_dump()])
    service: Service = new_service(HYPERVISOR_SNAPSHOT_PROFILES=profiles)
    client = service.start().client()
    here = client.image()["datacenter_id"]
    spec = {"datacenter_id": here, "size": 1024, "snapshot_profile": 7}
    made = client.call("hosting.disk.create", spec)
    client.done(made)
    store = Store(f"sqlite:///{service.state / 'store.db'}")
    try:
        follow(service, client, here, store, made["disk_id"])
    finally:
        store.close()


def test_a_disk_in_use_has_its_snapshots_too(new_service: NewService) -> None:
    """And the service does so by itself, when its time comes."""
    every = 2
    profiles = json.dumps([profile(every, NEVER).model_dump()])
    service: Service = new_service(HYPERVISOR_SNAPSHOT_PROFILES=profiles)
    client = service.start().client()
    vm = client.made({"memory": 128})
    client.done(client.call("hosting.disk.update", vm["disks_id"][0], {"snapshot_profile": 7}))

    def info() -> list[int]:
        found: list[int] = client.call("hosting.disk.info", vm["disks_id"][0])["snapshots_id"]
        return found

    seen: set[int] = set()

    def pruned() -> bool:
        seen.update(info())
        return len(seen) >= 6 and len(info()) <= 5

    until(pruned, 60, lambda: f"snapshots come and go: {sorted(seen)}, now {info()}")
    assert client.vm(vm["id"])["state"] == "running"
    client.done(client.call("hosting.disk.update", vm["disks_id"][0], {"snapshot_profile": ""}))
    service.domain(vm["id"]).destroy()
