"""``hosting.vlan.*``: private networks of an account."""

import ipaddress

from pydantic import Field
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from api.methods import operation, quota
from api.methods.call import Call, Struct
from api.methods.datacenter import show as show_datacenter
from api.methods.faults import Cause, Object, refuse
from api.methods.filters import Columns, IntFilter, Page, Pattern, TextFilter, counted, matching, paged
from api.methods.ids import DatacenterId, VlanId
from api.methods.lookup import open_datacenter, own
from api.methods.parameters import Parameters, Text
from api.methods.table import method
from api.operations.jobs import Planned
from api.operations.vlan import network_name
from api.store.models import Datacenter, Iface, Vlan

_DEFAULT_SUBNET = "192.168.0.0/24"


class VlanSpec(Parameters):
    """The network of ``hosting.vlan.create``; `subnet` is IPv4 with its prefix."""

    name: Text
    datacenter_id: DatacenterId
    subnet: Text | None = None
    gateway: Text | None = None


class VlanUpdate(Parameters):
    """What ``hosting.vlan.update`` may change."""

    name: Text | None = None
    gateway: Text | None = None


class VlanCountOptions(Parameters):
    """Filters of ``hosting.vlan.count``."""

    id: IntFilter | None = None
    datacenter_id: IntFilter | None = None
    name: TextFilter | None = None
    name_like: Pattern | None = Field(default=None, alias="~name")


class VlanListOptions(VlanCountOptions, Page):
    """Filters, order and page of ``hosting.vlan.list``."""


_COLUMNS: Columns = {"id": Vlan.id, "datacenter_id": Vlan.datacenter_id, "name": Vlan.name}


def show(vlan: Vlan) -> Struct:
    """An item of ``hosting.vlan.list``."""
    return {
        "datacenter_id": vlan.datacenter_id,
        "gateway": vlan.gateway,
        "id": vlan.id,
        "name": vlan.name,
        "state": vlan.state,
        "subnet": vlan.subnet,
        "uuid": vlan.id,
    }


def _visible(call: Call, opts: VlanCountOptions | None) -> Select[Vlan]:
    return matching(select(Vlan).where(Vlan.account_id == call.account.id), opts, _COLUMNS)


@method("hosting.vlan.list", "array", changes=False)
def list_(call: Call, opts: VlanListOptions | None = None) -> list[Struct]:
    """List private networks."""
    with call.store.reading() as session:
        return [show(vlan) for vlan in session.scalars(paged(_visible(call, opts), opts, _COLUMNS))]


@method("hosting.vlan.count", "int", changes=False)
def count(call: Call, opts: VlanCountOptions | None = None) -> int:
    """Count private networks."""
    with call.store.reading() as session:
        return counted(session, _visible(call, opts))


@method("hosting.vlan.info", "struct", changes=False)
def info(call: Call, vlan_id: VlanId) -> Struct:
    """Get information about a private network."""
    with call.store.reading() as session:
        vlan = own(session, call, Vlan, vlan_id)
        return {
            **show(vlan),
            "datacenter": show_datacenter(session.get_one(Datacenter, vlan.datacenter_id), []),
        }


@method("hosting.vlan.create", "struct")
def create(call: Call, vlan_spec: VlanSpec) -> Struct:
    """Create a private network. Returns a vlan_create operation."""
    with call.store.writing() as session:
        datacenter = open_datacenter(session, vlan_spec.datacenter_id)
        subnet = _subnet(vlan_spec.subnet or _DEFAULT_SUBNET)
        quota.check(session, call, vlans=1)
        vlan = Vlan(
            account_id=call.account.id,
            datacenter_id=datacenter.id,
            name=_free_name(session, call, vlan_spec.name),
            subnet=str(subnet),
            gateway=None if vlan_spec.gateway is None else _gateway(vlan_spec.gateway, subnet),
            network=network_name(),
        )
        session.add(vlan)
        session.flush()
        return _submit(call, session, vlan, "vlan_create")


@method("hosting.vlan.update", "struct")
def update(call: Call, vlan_id: VlanId, vlan_spec: VlanUpdate) -> Struct:
    """Rename a private network, or give it another gateway. Returns a vlan_update operation."""
    with call.store.writing() as session:
        vlan = own(session, call, Vlan, vlan_id)
        if vlan_spec.name is None and vlan_spec.gateway is None:
            raise refuse(Object.VLAN, Cause.NOTHING_TO_UPDATE, "there is nothing to update", "vlan_spec")
        if vlan_spec.name is not None and vlan_spec.name != vlan.name:
            vlan.name = _free_name(session, call, vlan_spec.name)
        if vlan_spec.gateway is not None:
            vlan.gateway = _gateway(vlan_spec.gateway, ipaddress.IPv4Network(vlan.subnet))
        return _submit(call, session, vlan, "vlan_update")


@method("hosting.vlan.delete", "struct")
def delete(call: Call, vlan_id: VlanId) -> Struct:
    """Delete a private network that no interface is on. Returns a vlan_delete operation."""
    with call.store.writing() as session:
        vlan = own(session, call, Vlan, vlan_id)
        if session.scalar(select(Iface.id).where(Iface.vlan_id == vlan.id).limit(1)) is not None:
            raise refuse(
                Object.VLAN, Cause.ATTACHED, f"vlan#{vlan.id} has interfaces: delete them first", "vlan_id"
            )
        return _submit(call, session, vlan, "vlan_delete")


def _submit(call: Call, session: Session, vlan: Vlan, workflow: str) -> Struct:
    planned = Planned(workflow, params={"vlan_id": vlan.id})
    return operation.accept(session, call, planned, f"vlan:{vlan.id}", vlan_id=vlan.id)


def _free_name(session: Session, call: Call, name: str) -> str:
    if not 0 < len(name) <= 255 or not name.isprintable():
        raise refuse(Object.VLAN, Cause.NAME, "name: use 1 to 255 printable characters", "name")
    taken = select(Vlan.id).where(Vlan.account_id == call.account.id, Vlan.name == name)
    if session.scalar(taken) is not None:
        raise refuse(Object.VLAN, Cause.EXIST, f"name: there is a vlan named {name!r}", "name")
    return name


def _subnet(text: str) -> ipaddress.IPv4Network:
    try:
        subnet = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise refuse(Object.VLAN, Cause.BADPARAMETER, f"subnet: {error}", "subnet") from None
    if not 8 <= subnet.prefixlen <= 29 or not subnet.is_private:
        raise refuse(
            Object.VLAN,
            Cause.BADPARAMETER,
            f"subnet: {subnet} is no private network of prefix 8 to 29",
            "subnet",
        )
    return subnet


def _gateway(text: str, subnet: ipaddress.IPv4Network) -> str:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError as error:
        raise refuse(Object.VLAN, Cause.BADPARAMETER, f"gateway: {error}", "gateway") from None
    if address not in subnet or address in (subnet.network_address, subnet.broadcast_address):
        raise refuse(Object.VLAN, Cause.BADPARAMETER, f"gateway: {address} is no host of {subnet}", "gateway")
    return str(address)
