"""Interfaces: their addresses reserved and given back."""

import ipaddress

from sqlalchemy.orm import Session

from api.operations.backend import Backend
from api.operations.bandwidth import enforce
from api.operations.engine import workflow
from api.operations.run import Run
from api.operations.turn import check_free
from api.store.models import Datacenter, Iface, Vm
from hypervisor import network
from hypervisor.network import Reservation


@workflow("iface_create")
async def create(run: Run, iface_id: int) -> None:
    """Make an interface: reserve its addresses."""
    async with run.undone_by(discard, run.backend, iface_id), run.operation("iface_create") as outcome:
        await run.step(reserve, run.backend, iface_id)
        outcome.records(lambda session: created(session, iface_id))


@workflow("iface_update")
async def update(run: Run, iface_id: int, bandwidth: float) -> None:
    """Give the interface another bandwidth, in kbit/s."""
    async with run.operation("iface_update"):
        await run.step(widen, run.backend, iface_id, bandwidth)


@workflow("iface_delete")
async def delete(run: Run, iface_id: int) -> None:
    """Give a free interface's addresses back."""
    async with run.operation("iface_delete") as outcome:
        await run.step(check_free, run.backend, Iface, iface_id)
        await run.step(release, run.backend, iface_id)
        outcome.records(lambda session: forget(session, iface_id))


@workflow("ip_update")
async def update_ip(run: Run, iface_id: int) -> None:  # noqa: ARG001 - what every operation on one is given
    """Name an address: the name is recorded, and there is no name server of ours to tell."""
    async with run.operation("ip_update"):
        pass


def reserve(backend: Backend, iface_id: int, datacenter_id: int | None = None) -> None:
    """Let the DHCP server of the interface's datacenter hand out its addresses there to its MAC; or that of
    the one that it moves to."""
    with backend.store.reading() as session:
        iface = session.get_one(Iface, iface_id)
        where = iface.datacenter_id if datacenter_id is None else datacenter_id
        name = network_of(session, iface, where)
        vm = None if iface.vm_id is None else session.get_one(Vm, iface.vm_id)
        addresses = {ip.version: ip.ip for ip in iface.ips if ip.datacenter_id == where}
    network.assign(
        backend.handle(where),
        name,
        Reservation(
            mac=iface.mac,
            ipv4=ipaddress.IPv4Address(addresses[4]) if 4 in addresses else None,
            ipv6=ipaddress.IPv6Address(addresses[6]) if 6 in addresses else None,
            # the DHCP server's name for the guest is one label; the whole name is the seed's affair
            hostname=None if vm is None else vm.hostname.partition(".")[0],
            label=f"{iface.id}.{iface.account_id}",
        ),
    )


def labelled(reservation: Reservation) -> tuple[int, int] | None:
    """The ids of the interface that a reservation is for and of its account; None for one without a label."""
    iface, _, account = (reservation.label or "").partition(".")
    return (int(iface), int(account)) if iface.isdecimal() and account.isdecimal() else None


def release(backend: Backend, iface_id: int, datacenter_id: int | None = None) -> None:
    """Take the interface's addresses back from the DHCP server of its datacenter, or of another one."""
    with backend.store.reading() as session:
        iface = session.get(Iface, iface_id)
        if iface is None:
            return
        where = iface.datacenter_id if datacenter_id is None else datacenter_id
        name = network_of(session, iface, where)
    network.release(backend.handle(where), name, iface.mac)


def network_of(session: Session, iface: Iface, datacenter_id: int) -> str:
    """The libvirt network that the interface has in a datacenter."""
    if iface.vlan is not None:
        return iface.vlan.network
    return session.get_one(Datacenter, datacenter_id).network


def discard(backend: Backend, iface_id: int) -> None:
    """Undo an unfinished interface: its reservation and its records."""
    release(backend, iface_id)
    with backend.store.writing() as session:
        forget(session, iface_id)


def created(session: Session, iface_id: int) -> None:
    """Record that the interface exists, in use or free."""
    iface = session.get_one(Iface, iface_id)
    iface.state = "free" if iface.vm_id is None else "used"
    for ip in iface.ips:
        ip.state = "created"


def widen(backend: Backend, iface_id: int, bandwidth: float) -> None:
    """Record the interface's new bandwidth in kbit/s, and enforce it when its VM runs."""
    with backend.store.writing() as session:
        iface = session.get_one(Iface, iface_id)
        iface.bandwidth = bandwidth
    if iface.vm_id is not None:
        enforce(backend, iface.vm_id)


def forget(session: Session, iface_id: int) -> None:
    """Remove the records of the interface and its addresses, unless they are gone."""
    iface = session.get(Iface, iface_id)
    if iface is not None:
        for ip in list(iface.ips):
            session.delete(ip)
        session.flush()
        session.delete(iface)
