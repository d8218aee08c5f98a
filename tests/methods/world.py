"""A store with accounts and objects, and the dispatcher in front of it."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import api.methods
from api.methods.audit import Audit
from api.methods.call import Services
from api.methods.dispatch import Dispatcher
from api.methods.faults import Fault
from api.methods.graph.links import Links
from api.operations.jobs import Jobs, Origin, Planned
from api.settings import Limits, Settings
from api.store.database import Store
from api.store.keys import digest
from api.store.models import (
    Account,
    ApiKey,
    Datacenter,
    Disk,
    Iface,
    Image,
    Ip,
    Operation,
    Record,
    Vlan,
    Vm,
    now,
)
from api.store.statistics import Statistics
from hypervisor.storage.pool import Room
from tests.coverage.recorder import RECORDER

api.methods.load()

ALICE = "alice".ljust(24, "0")
BOB = "bob".ljust(24, "0")
REVOKED = "revoked".ljust(24, "0")
EXPIRED = "expired".ljust(24, "0")
READER = "reader".ljust(24, "0")
UNKNOWN = "unknown".ljust(24, "0")
OWN = "qemu:///system"


@dataclass
class World:
    """What a test acts on."""

    store: Store
    wakes: list[None] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    rooms: dict[str, Room] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    # the time that the statistics go by; a test may put its own here
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        file = Path(self.store.engine.url.database or "").with_name("statistics.db")
        self.statistics = Statistics(file, every=60, clock=lambda: self.clock())
        jobs = Jobs(lambda: self.wakes.append(None), self.told.append)
        self.services = Services(
            store=self.store,
            jobs=jobs,
            limits=Limits(cores=8),
            console_url="console.example.net",
            snapshot_profiles=Settings().snapshot_profiles,
            statistics=self.statistics,
            room=lambda place: self.rooms.get(place.pool, Room(active=True, free=10**6)),
            libvirt_uri=OWN,
            audit=Audit(),
            links=Links(b"secret", 3600, None, "http://127.0.0.1:8080"),
        )
        self.dispatch = Dispatcher(self.services)
        self.accounts = {ALICE: self.get(Account, 1), BOB: self.get(Account, 2)}

    def call(self, name: str, *arguments: Any, key: str = ALICE) -> Any:
        """The answer to `key`'s call of the method."""
        where = ("192.0.2.1", "http://api.example:8080/")
        return RECORDER.watched(name, arguments, lambda: self.dispatch(name, [key, *arguments], *where))

    def fault(self, name: str, *arguments: Any, key: str = ALICE) -> Fault:
        """The fault that `key`'s call of the method ends in."""
        with pytest.raises(Fault) as caught:
            self.call(name, *arguments, key=key)
        return caught.value

    def add(self, *records: Record) -> None:
        """Keep the records; their ids are there afterwards."""
        with self.store.writing() as session:
            session.add_all(records)

    def close(self) -> None:
        """Close the databases."""
        self.store.close()
        self.statistics.close()

    def get(self, model: type[Any], identifier: int) -> Any:
        """The record as it is now, None when it is gone."""
        with self.store.reading() as session:
            return session.get(model, identifier)

    def vm(self, hostname: str = "web", key: str = ALICE, state: str = "halted", **values: Any) -> Vm:
        """A virtual machine of `key`'s account."""
        number = next(self.numbers)
        given = {"cores": 1, "memory": 512, "vm_max_memory": 2048, "seed": {}, "datacenter_id": 1} | values
        vm = Vm(account_id=self.accounts[key].id, uuid=str(number), hostname=hostname, state=state, **given)
        self.add(vm)
        return vm

    def disk(self, name: str = "data", key: str | None = ALICE, **values: Any) -> Disk:
        """A disk of `key`'s account, or an image's without a key."""
        given = {"size": 10240, "state": "created", "datacenter_id": 1, "volume": name} | values
        disk = Disk(account_id=None if key is None else self.accounts[key].id, name=name, **given)
        self.add(disk)
        return disk

    def image(self, label: str, datacenter_id: int = 1, **values: Any) -> Image:
        """An image with its disk."""
        disk = self.disk(label, key=None, size=3072, datacenter_id=datacenter_id)
        image = Image(datacenter_id=datacenter_id, disk_id=disk.id, label=label, **values)
        self.add(image)
        return image

    def iface(self, key: str = ALICE, addresses: tuple[str, ...] = (), **values: Any) -> Iface:
        """An interface with its addresses."""
        number = next(self.numbers)
        given = {"bandwidth": 102400.0, "state": "free", "datacenter_id": 1} | values
        iface = Iface(account_id=self.accounts[key].id, mac=f"52:54:00:00:00:{number:02x}", **given)
        self.add(iface)
        for position, address in enumerate(addresses):
            self.add(
                Ip(
                    account_id=iface.account_id,
                    datacenter_id=iface.datacenter_id,
                    iface_id=iface.id,
                    ip=address,
                    version=6 if ":" in address else 4,
                    num=position,
                    state="being_created" if iface.state == "being_created" else "created",
                )
            )
        return iface

    def vlan(self, name: str, key: str = ALICE, **values: Any) -> Vlan:
        """A private network of `key`'s account."""
        given = {"datacenter_id": 1, "subnet": "10.7.13.0/24", "state": "created", "network": name} | values
        vlan = Vlan(account_id=self.accounts[key].id, name=name, **given)
        self.add(vlan)
        return vlan

    def job(
        self, *planned: Planned, key: str = ALICE, claims: tuple[str, ...] = ("vm:1",)
    ) -> list[Operation]:
        """Work that was accepted."""
        origin = Origin(self.accounts[key], "192.0.2.1")
        with self.store.writing() as session:
            return self.services.jobs.submit(session, origin, "vm_create", {}, planned, claims)

    def change(self, record: Record, **values: Any) -> None:
        """Give the record other values."""
        with self.store.writing() as session:
            fresh = session.merge(record)
            for key, value in values.items():
                setattr(fresh, key, value)


def begin(store: Store) -> None:
    """Make the accounts of Alice and Bob, their keys, good and bad, and three datacenters."""
    with store.writing() as session:
        session.add_all([Account(handle="ALICE-GANDI"), Account(handle="BOB-GANDI")])
        session.flush()
        session.add_all(
            [
                ApiKey(account_id=1, digest=digest(ALICE)),
                ApiKey(account_id=2, digest=digest(BOB)),
                ApiKey(account_id=1, digest=digest(REVOKED), date_revoked=now()),
                ApiKey(account_id=1, digest=digest(EXPIRED), date_expires=now()),
                ApiKey(account_id=1, digest=digest(READER), read_only=True),
                datacenter("FR-SD5", "FR", "Bissy", "France"),
                datacenter("LU-BI1", "LU", "Bissen", "Luxembourg"),
                datacenter("US-BA1", "US", "Baltimore", "United States", iaas_closed_for="ALL"),
            ]
        )


def fill(world: World) -> None:
    """Give Alice one or two of everything."""
    image = world.image("Debian 12")
    running, halted = world.vm("web", state="running"), world.vm("db")
    world.disk("sys", vm_id=running.id, position=0, source_id=image.disk_id)
    world.disk("sys2", vm_id=halted.id, position=0)
    world.disk("free")
    world.disk("snap", type="snapshot", source_id=2)
    world.iface(addresses=("192.0.2.2", "2001:db8::2"), vm_id=running.id, num=0, state="used")
    world.iface(addresses=("2001:db8::3",))
    world.vlan("lan")
    world.job(Planned("vm_stop", vm_id=running.id))


def datacenter(dc_code: str, iso: str, name: str, country: str, **values: Any) -> Datacenter:
    """A datacenter with a network of 13 addresses to give."""
    network = {"ipv4": "192.0.2.1/28", "ipv6": "2001:db8::1/64"}
    given = {"pool": dc_code, "network": dc_code} | network | values
    return Datacenter(dc_code=dc_code, iso=iso, name=name, country=country, **given)
