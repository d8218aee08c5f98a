"""The end of a move: the records follow the copies, the interfaces take their new addresses."""

import ipaddress
import logging

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from api.operations import addresses, blueprint
from api.operations import iface as ifaces
from api.operations.backend import Backend
from api.operations.migration.plan import Move
from api.store.models import Datacenter, Disk, Iface, Ip, Vm
from hypervisor.domain import power, rewire
from hypervisor.domain.spec import InterfaceSpec
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import Unavailable
from hypervisor.storage import pool

log = logging.getLogger(__name__)


def book(backend: Backend, move: Move) -> None:
    """Give the interfaces addresses in the other datacenter, beside those that they have, and reserve them.

    Raises `HypervisorError` when there is none left.
    """
    with backend.store.writing() as session:
        there = session.get_one(Datacenter, move.to_id)
        for iface_id in move.iface_ids:
            iface = session.get_one(Iface, iface_id)
            if not any(ip.datacenter_id == there.id for ip in iface.ips):
                version = min(ip.version for ip in iface.ips)
                addresses.give_more(session, iface, there, version, first=len(iface.ips))
    for iface_id in move.iface_ids:
        ifaces.reserve(backend, iface_id, move.to_id)


def unbook(backend: Backend, move: Move) -> None:
    """Take back what `book` gave."""
    give_back(backend, move, move.to_id)
    with backend.store.writing() as session:
        session.execute(delete(Ip).where(Ip.iface_id.in_(move.iface_ids), Ip.datacenter_id == move.to_id))


def give_back(backend: Backend, move: Move, datacenter_id: int) -> None:
    """Let the DHCP server of one of the two datacenters forget the interfaces."""
    for iface_id in move.iface_ids:
        ifaces.release(backend, iface_id, datacenter_id)


def follow(session: Session, move: Move) -> None:
    """Record that the disks and the interfaces are in the other datacenter."""
    for copy in move.copies:
        if copy.disk_id is not None:
            disk = session.get_one(Disk, copy.disk_id)
            disk.datacenter_id, disk.volume, disk.state = move.to_id, copy.name, "created"
    for iface_id in move.iface_ids:
        session.get_one(Iface, iface_id).datacenter_id = move.to_id
        session.execute(delete(Ip).where(Ip.iface_id == iface_id, Ip.datacenter_id != move.to_id))
        kept = select(Ip).where(Ip.iface_id == iface_id).order_by(Ip.num)
        for number, ip in enumerate(session.scalars(kept).all()):
            ip.num, ip.state = number, "created"


def settle_in(backend: Backend, vm_id: int) -> None:
    """Define the domain as the records have it now, and put what runs on the networks of its datacenter."""
    connection, uuid = backend.machine(vm_id)
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
        # one that somebody stopped meanwhile; the machine runs from it
        pool.start(connection, session.get_one(Datacenter, vm.datacenter_id).pool)
        spec = blueprint.domain(backend, session, vm)
    power.define(connection, spec)
    power.label(connection, uuid, spec.labels)
    for interface in spec.interfaces:
        rewire.rewire(connection, uuid, interface)


def renew(backend: Backend, vm_id: int) -> list[str]:
    """Let the running guest ask for its new addresses; returns the MACs of the interfaces that did not."""
    connection, uuid = backend.machine(vm_id)
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
        there = session.get_one(Datacenter, vm.datacenter_id)
        cards = [
            (blueprint.interface(there, iface), [ipaddress.ip_address(ip.ip) for ip in iface.ips])
            for iface in vm.ifaces
        ]
    if power.state(connection, uuid) is not power.State.RUNNING:
        for card, _ in cards:
            rewire.plug_cable(connection, uuid, card.alias)
        return []
    return [card.mac for card, wanted in cards if not _renewed(backend, vm_id, card, wanted)]


def _renewed(
    backend: Backend,
    vm_id: int,
    card: InterfaceSpec,
    wanted: list[ipaddress.IPv4Address | ipaddress.IPv6Address],
) -> bool:
    try:
        return rewire.renew(*backend.machine(vm_id), card.alias, card.mac, card.network, wanted)
    except Unavailable:
        raise
    except HypervisorError as error:
        log.warning("%s: its guest could not be told of its new addresses: %s", card.mac, error)
        rewire.plug_cable(*backend.machine(vm_id), card.alias)
        return False
