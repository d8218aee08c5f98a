"""What there is of a service in the places where it could leave something behind."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import libvirt
from sqlalchemy import select

from api.operations.run import UNFINISHED
from api.settings import DatacenterSettings
from api.store.database import Store
from api.store.models import Claim, Disk, Iface, Ip, Job, Operation, Vm
from hypervisor.network import bridge, reservations
from hypervisor.storage import pool


@dataclass(frozen=True)
class Inventory:
    """libvirt, the pools, the bridges, the store; what belongs to no object is left out."""

    domains: frozenset[str]
    pools: frozenset[str]
    networks: frozenset[str]
    volumes: frozenset[str]
    files: frozenset[str]
    ports: frozenset[str]
    reservations: frozenset[str]
    vms: frozenset[int]
    disks: frozenset[int]
    ifaces: frozenset[int]
    ips: frozenset[str]
    claims: frozenset[str]
    consoles: frozenset[str]


def take(
    connection: libvirt.virConnect, datacenters: Iterable[DatacenterSettings], state: Path, pools: Path
) -> Inventory:
    """The inventory now, of a service with its `state` folder; domains and networks are all of libvirt's."""
    listed = tuple(datacenters)
    store = Store(f"sqlite:///{state / 'store.db'}")
    try:
        with store.reading() as session:
            vms = frozenset(session.scalars(select(Vm.id).where(Vm.state != "deleted")))
            disks = frozenset(session.scalars(select(Disk.id)))
            ifaces = frozenset(session.scalars(select(Iface.id)))
            ips = frozenset(session.scalars(select(Ip.ip)))
            claims = frozenset(session.scalars(select(Claim.resource)))
    finally:
        store.close()
    # a pool lists what it knows; the folder, what is there
    for one in connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
        one.refresh()
    return Inventory(
        domains=frozenset(f"{one.name()} {one.UUIDString()}" for one in connection.listAllDomains()),
        pools=frozenset(one.name() for one in connection.listAllStoragePools()),
        networks=frozenset(one.name() for one in connection.listAllNetworks()),
        volumes=frozenset(f"{dc.pool}/{name}" for dc in listed for name in pool.volumes(connection, dc.pool)),
        files=frozenset(f"{dc.pool}/{file.name}" for dc in listed for file in (pools / dc.pool).iterdir()),
        ports=frozenset(f"{dc.bridge}/{port}" for dc in listed for port in bridge.ports(dc.bridge)),
        reservations=frozenset(
            f"{dc.network}/{one.mac} {one.ipv4} {one.ipv6}"
            for dc in listed
            for one in reservations(connection, dc.network)
        ),
        consoles=frozenset(file.name for file in (state / "console").iterdir()),
        vms=vms,
        disks=disks,
        ifaces=ifaces,
        ips=ips,
        claims=claims,
    )


def outlived_claims(state: Path) -> list[str]:
    """What jobs hold that have ended: something for a moment after each, the release being its own commit."""
    store = Store(f"sqlite:///{state / 'store.db'}")
    try:
        with store.reading() as session:
            ended = ~Job.operations.any(Operation.step.in_(UNFINISHED))
            return list(session.scalars(select(Claim.resource).join(Job).where(ended)))
    finally:
        store.close()


def count_operations(state: Path) -> int:
    """How many operations were ever recorded."""
    store = Store(f"sqlite:///{state / 'store.db'}")
    try:
        with store.reading() as session:
            return len(session.scalars(select(Operation.id)).all())
    finally:
        store.close()
