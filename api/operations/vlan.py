"""Private networks of an account: one libvirt network each, on which the host answers nothing but DHCP."""

import ipaddress
import json
import logging
import secrets
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.operations.backend import Backend
from api.operations.engine import workflow
from api.operations.run import Run
from api.store.database import Store
from api.store.models import Datacenter, Operation, Vlan
from api.store.plain import plain
from hypervisor import network
from hypervisor.connection import Handle
from hypervisor.errors import HypervisorError
from hypervisor.network import Mode, NetworkSpec, Outcome

log = logging.getLogger(__name__)

# the labels of a vlan's network
WITHIN, RECORD = "within", "record"


def network_name() -> str:
    """A name for the network of a new vlan; the random part is its bridge's name too."""
    return f"hypervisor-vlan-{secrets.token_hex(4)}"


@workflow("vlan_create")
async def create(run: Run, vlan_id: int) -> None:
    """Make the private network."""
    async with run.undone_by(discard, run.backend, vlan_id), run.operation("vlan_create") as outcome:
        await run.step(ensure, run.backend, vlan_id)
        outcome.records(lambda session: created(session, vlan_id))


@workflow("vlan_update")
async def update(run: Run, vlan_id: int) -> None:
    """Bring the private network in line with its record.

    A new gateway is told to guests from the network's next start on: it does not start anew under them.
    """
    async with run.operation("vlan_update") as outcome:
        waits = await run.step(ensure, run.backend, vlan_id)
        if waits:
            outcome.records(lambda session: _note(session, run.job_id))


@workflow("vlan_delete")
async def delete(run: Run, vlan_id: int) -> None:
    """Remove the private network."""
    async with run.operation("vlan_delete") as outcome:
        await run.step(remove, run.backend, vlan_id)
        outcome.records(lambda session: forget(session, vlan_id))


def ensure(backend: Backend, vlan_id: int) -> bool:
    """Define and start the private network as its record has it; returns whether a change has to wait."""
    with backend.store.reading() as session:
        vlan = session.get_one(Vlan, vlan_id)
        wanted = spec(session, vlan)
    return network.ensure(backend.handle(vlan.datacenter_id), wanted) is Outcome.PENDING


def ensure_all(store: Store, connection: Handle, datacenter_id: int) -> None:
    """Have every private network of the datacenter run, and the host closed to its guests, as after a restart
    of the host."""
    with store.reading() as session:
        vlans = session.scalars(
            select(Vlan).where(Vlan.state == "created", Vlan.datacenter_id == datacenter_id)
        ).all()
        wanted = {vlan.id: spec(session, vlan) for vlan in vlans}
    for vlan_id, one in wanted.items():
        try:
            network.ensure(connection, one)
        except HypervisorError as error:
            log.warning("vlan#%d does not work: %s", vlan_id, error)


def spec(session: Session, vlan: Vlan) -> NetworkSpec:
    """The libvirt network of the vlan; its labels tell the datacenter, by that one's network, and the record,
    should that be lost."""
    datacenter = session.get_one(Datacenter, vlan.datacenter_id)
    return NetworkSpec(
        name=vlan.network,
        bridge=f"hvl-{vlan.network[-8:]}",
        ipv4=ipaddress.IPv4Interface(vlan.subnet),
        mode=Mode.PRIVATE,
        router=None if vlan.gateway is None else ipaddress.IPv4Address(vlan.gateway),
        labels={
            WITHIN: datacenter.network,
            RECORD: json.dumps(plain(vlan, without=("state", "date_updated"))),
        },
    )


def recorded(network: NetworkSpec) -> dict[str, Any]:
    """What the network's labels say of its vlan; nothing when they do not."""
    try:
        found = json.loads(network.labels.get(RECORD, ""))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def remove(backend: Backend, vlan_id: int) -> None:
    """Remove the private network, unless it is gone."""
    with backend.store.reading() as session:
        vlan = session.get(Vlan, vlan_id)
    if vlan is not None:
        network.remove(backend.handle(vlan.datacenter_id), vlan.network)


def discard(backend: Backend, vlan_id: int) -> None:
    """Undo an unfinished vlan: its network and its record."""
    remove(backend, vlan_id)
    with backend.store.writing() as session:
        forget(session, vlan_id)


def created(session: Session, vlan_id: int) -> None:
    """Record that the vlan exists."""
    session.get_one(Vlan, vlan_id).state = "created"


def _note(session: Session, job_id: int) -> None:
    for operation in session.scalars(select(Operation).where(Operation.job_id == job_id)):
        operation.params = {**operation.params, "applied": {"gateway": "when the network starts anew"}}


def forget(session: Session, vlan_id: int) -> None:
    """Remove the vlan's record, unless it is gone."""
    vlan = session.get(Vlan, vlan_id)
    if vlan is not None:
        session.delete(vlan)
