"""The look at what became of everything finds what is wrong."""

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import libvirt
import pytest

from tests.faults import canary
from tests.faults.town import Town
from tests.faults.workload import Workload

pytestmark = pytest.mark.guest


def _pool(town: Town) -> Path:
    return town.service.pools / town.service.datacenters[0].pool


@contextmanager
def _a_stray_volume(town: Town) -> Iterator[str]:
    stray = _pool(town) / "disk-999-stray.qcow2"
    stray.touch()
    yield f"leaked: {stray} belongs to nobody"
    stray.unlink()


@contextmanager
def _a_volume_gone(town: Town) -> Iterator[str]:
    records = town.records()
    disk = next(one for one in records.disk if one["id"] in town.book.patterns and one["vm_id"] is None)
    file = records.volume(disk, town.service.pools)
    aside = shutil.move(file, town.service.state / file.name)
    yield f"lost: disk#{disk['id']}: has no volume {file}"
    shutil.move(aside, file)


@contextmanager
def _other_bytes(town: Town) -> Iterator[str]:
    records = town.records()
    disk = next(one for one in records.disk if one["id"] in town.book.patterns and one["vm_id"] is None)
    file, pattern = records.volume(disk, town.service.pools), town.book.patterns[disk["id"]]
    canary.stamp(file, pattern % 255 + 1)
    yield f"lost: the data of disk#{disk['id']} ({file.name}) is not what it was"
    canary.stamp(file, pattern)


@contextmanager
def _a_domain_gone(town: Town) -> Iterator[str]:
    vm = next(one for one in town.records().living if one["state"] == "halted")
    domain = town.service.domain(vm["id"])
    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    domain.undefine()
    yield f"lost: vm#{vm['id']} (halted) has no domain"
    town.host.connection.defineXML(xml)


@contextmanager
def _a_foreign_domain(town: Town) -> Iterator[str]:
    name = f"vm-{town.service.first_vm + 900}"
    xml = f"<domain type='qemu'><name>{name}</name><memory>65536</memory><os><type>hvm</type></os></domain>"
    domain = town.host.connection.defineXML(xml)
    yield f"leaked: domain {name} has no record"
    domain.undefine()


@contextmanager
def _a_reservation_gone(town: Town) -> Iterator[str]:
    network = town.service.datacenters[0].network
    pool = town.host.connection.storagePoolLookupByName(f"{network}-reservations")
    pool.refresh()
    volume = next(one for one in pool.listAllVolumes() if not one.name().endswith(".freed"))
    file, name = Path(volume.path()), volume.name()
    content = file.read_bytes()
    file.unlink()
    yield f"lost: reservation {network} {'_'.join(name.split('_')[:3])} is missing"
    file.write_bytes(content)


@contextmanager
def _a_claim(town: Town) -> Iterator[str]:
    with closing(sqlite3.connect(town.service.state / "store.db", timeout=30)) as database:
        job = database.execute("SELECT max(id) FROM job").fetchone()[0]
        database.execute("INSERT INTO claim (resource, job_id) VALUES ('disk:999', ?)", (job,))
        database.commit()
        yield f"stuck: disk:999 is claimed by job {job}"
        database.execute("DELETE FROM claim WHERE resource = 'disk:999'")
        database.commit()


@contextmanager
def _an_object_that_was_promised(town: Town) -> Iterator[str]:
    town.book.objects["iface"].add(999)
    yield "lost: iface#999 has no record"
    town.book.objects["iface"].discard(999)


Damage = Callable[[Town], AbstractContextManager[str]]
DAMAGES: tuple[Damage, ...] = (
    _a_stray_volume, _a_volume_gone, _other_bytes, _a_domain_gone, _a_foreign_domain, _a_reservation_gone,
    _a_claim, _an_object_that_was_promised,
)  # fmt: skip


def test_what_is_wrong_is_found(town: Town) -> None:
    workload = Workload(town.service.client(), random.Random(0))
    town.book.follow(town.records())
    for damage in DAMAGES:
        with damage(town) as expected:
            found = str(town.compared(workload))
        assert expected in found, f"{damage}: {found}"
    assert not town.look(workload)
