"""Private networks of an account: one isolated libvirt network each."""

import ipaddress
import secrets

from sqlalchemy.orm import Session

from api.operations.backend import Backend
from api.operations.engine import workflow
from api.operations.run import Run
from api.store.models import Vlan
from hypervisor import network
from hypervisor.network import Mode, NetworkSpec


def network_name() -> str:
    """A name for the network of a new vlan; the random part is its bridge's name too."""
    return f"hypervisor-vlan-{secrets.token_hex(4)}"


def server_address(subnet: str, gateway: str | None) -> ipaddress.IPv4Interface:
    """The DHCP server's address: the last of the subnet that is not the gateway's, which may be a guest's."""
    net = ipaddress.IPv4Network(subnet)
    last = net.broadcast_address - 1
    address = last - 1 if gateway is not None and ipaddress.IPv4Address(gateway) == last else last
    return ipaddress.IPv4Interface(f"{address}/{net.prefixlen}")


@workflow("vlan_create")
async def create(run: Run, vlan_id: int) -> None:
    """Make the private network."""
    async with run.undone_by(discard, run.backend, vlan_id), run.operation("vlan_create") as outcome:
        await run.step(ensure, run.backend, vlan_id)
        outcome.records(lambda session: created(session, vlan_id))


@workflow("vlan_update")
async def update(run: Run, vlan_id: int) -> None:
    """Bring the private network in line with its record; guests learn a new gateway at their next request."""
    async with run.operation("vlan_update"):
        await run.step(ensure, run.backend, vlan_id)


@workflow("vlan_delete")
async def delete(run: Run, vlan_id: int) -> None:
    """Remove the private network."""
    async with run.operation("vlan_delete") as outcome:
        await run.step(remove, run.backend, vlan_id)
        outcome.records(lambda session: forget(session, vlan_id))


def ensure(backend: Backend, vlan_id: int) -> None:
    """Define and start the private network as its record has it."""
    with backend.store.reading() as session:
        vlan = session.get_one(Vlan, vlan_id)
    network.ensure(backend.connection.handle(wait=30), spec(vlan))


def spec(vlan: Vlan) -> NetworkSpec:
    """The libvirt network of the vlan."""
    return NetworkSpec(
        name=vlan.network,
        bridge=f"hvl-{vlan.network[-8:]}",
        ipv4=server_address(vlan.subnet, vlan.gateway),
        mode=Mode.ISOLATED,
        router=None if vlan.gateway is None else ipaddress.IPv4Address(vlan.gateway),
    )


def remove(backend: Backend, vlan_id: int) -> None:
    """Remove the private network, unless it is gone."""
    with backend.store.reading() as session:
        vlan = session.get(Vlan, vlan_id)
    if vlan is not None:
        network.remove(backend.connection.handle(wait=30), vlan.network)


def discard(backend: Backend, vlan_id: int) -> None:
    """Undo an unfinished vlan: its network and its record."""
    remove(backend, vlan_id)
    with backend.store.writing() as session:
        forget(session, vlan_id)


def created(session: Session, vlan_id: int) -> None:
    """Record that the vlan exists."""
    session.get_one(Vlan, vlan_id).state = "created"


def forget(session: Session, vlan_id: int) -> None:
    """Remove the vlan's record, unless it is gone."""
    vlan = session.get(Vlan, vlan_id)
    if vlan is not None:
        session.delete(vlan)
