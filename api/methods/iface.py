"""``hosting.iface.*``: network interfaces. Bandwidth is in kbit/s."""

from ipaddress import IPv4Address, IPv4Network
from typing import Annotated

from pydantic import Field
from sqlalchemy import Select, case, select
from sqlalchemy.orm import Session

from api.methods import ip as ips
from api.methods import operation, quota, room
from api.methods.call import Call, Struct
from api.methods.faults import Cause, Object, refuse
from api.methods.filters import Columns, IntFilter, Page, TextFilter, counted, matching, paged
from api.methods.ids import DatacenterId, IfaceId, VlanId
from api.methods.lookup import check_free, check_open, open_datacenter, own
from api.methods.parameters import Double, IpVersion, Parameters, Text
from api.methods.table import method
from api.operations.addresses import give, give_private, given
from api.operations.jobs import Planned
from api.store.models import Iface, Ip, Vlan
from hypervisor.network.errors import SubnetExhausted

Bandwidth = Annotated[Double, Field(gt=0, le=10_000_000)]


class IfaceDescription(Parameters):
    """The interface of ``hosting.iface.create``; on a vlan it is private, and `ip` may be chosen."""

    datacenter_id: DatacenterId
    ip_version: IpVersion = 4
    bandwidth: Bandwidth = 102400.0
    vlan: VlanId | None = None
    ip: Text | None = None


class IfaceUpdate(Parameters):
    """What ``hosting.iface.update`` may change."""

    bandwidth: Bandwidth


class IfaceCountOptions(Parameters):
    """Filters of ``hosting.iface.count``; `vlan` is a vlan's name."""

    id: IntFilter | None = None
    state: TextFilter | None = None
    type: TextFilter | None = None
    vm_id: IntFilter | None = None
    datacenter_id: IntFilter | None = None
    vlan_id: IntFilter | None = None
    vlan: TextFilter | None = None


class IfaceListOptions(IfaceCountOptions, Page):
    """Filters, order and page of ``hosting.iface.list``."""


_COLUMNS: Columns = {
    "id": Iface.id,
    "state": Iface.state,
    "type": case((Iface.vlan_id.is_(None), "public"), else_="private"),
    "vm_id": Iface.vm_id,
    "datacenter_id": Iface.datacenter_id,
    "vlan_id": Iface.vlan_id,
    "vlan": Vlan.name,
}


def show(iface: Iface) -> Struct:
    """How an interface is shown."""
    return {
        "bandwidth": iface.bandwidth,
        "datacenter_id": iface.datacenter_id,
        "date_created": iface.date_created,
        "date_updated": iface.date_updated,
        "id": iface.id,
        "ips": [ips.show(ip) for ip in iface.ips],
        "ips_id": [ip.id for ip in iface.ips],
        "num": iface.num,
        "state": iface.state,
        "type": "public" if iface.vlan_id is None else "private",
        "vlan": None if iface.vlan is None else {"id": iface.vlan.id, "name": iface.vlan.name},
        "vm_id": iface.vm_id,
    }


def _visible(call: Call, opts: IfaceCountOptions | None) -> Select[Iface]:
    query = select(Iface).outerjoin(Vlan).where(Iface.account_id == call.account.id)
    return matching(query, opts, _COLUMNS)


@method("hosting.iface.list", "array", changes=False)
def list_(call: Call, opts: IfaceListOptions | None = None) -> list[Struct]:
    """List network interfaces."""
    with call.store.reading() as session:
        return [
            show(iface) for iface in session.scalars(paged(_visible(call, opts), opts, _COLUMNS)).unique()
        ]


@method("hosting.iface.count", "int", changes=False)
def count(call: Call, opts: IfaceCountOptions | None = None) -> int:
    """Count network interfaces."""
    with call.store.reading() as session:
        return counted(session, _visible(call, opts))


@method("hosting.iface.info", "struct", changes=False)
def info(call: Call, iface_id: IfaceId) -> Struct:
    """Get information about a network interface."""
    with call.store.reading() as session:
        return show(own(session, call, Iface, iface_id))


@method("hosting.iface.create", "struct")
def create(call: Call, iface_spec: IfaceDescription) -> Struct:
    """Create a network interface with its addresses. Returns an iface_create operation."""
    with call.store.writing() as session:
        datacenter = open_datacenter(session, iface_spec.datacenter_id)
        vlan = None if iface_spec.vlan is None else own(session, call, Vlan, iface_spec.vlan)
        iface = Iface(
            account_id=call.account.id,
            datacenter_id=datacenter.id,
            bandwidth=iface_spec.bandwidth,
            vlan_id=None if vlan is None else vlan.id,
            vm_id=None,
            num=None,
        )
        if vlan is None:
            if iface_spec.ip is not None:
                raise refuse(
                    Object.IP, Cause.BADPARAMETER, "ip: an address can be chosen on a vlan only", "ip"
                )
            quota.check(session, call, addresses=given(iface_spec.ip_version))
            addresses = give(session, iface, datacenter, iface_spec.ip_version)
        else:
            quota.check(session, call, addresses=1)
            addresses = _private(session, iface_spec, iface, vlan)
        planned = Planned("iface_create", iface_id=iface.id, ip_id=addresses[0].id)
        return operation.accept(session, call, planned, *([] if vlan is None else [f"vlan:{vlan.id}"]))


def _private(session: Session, spec: IfaceDescription, iface: Iface, vlan: Vlan) -> list[Ip]:
    """Put the interface on the vlan, with the address that was asked for or the next free one."""
    if vlan.datacenter_id != iface.datacenter_id:
        raise refuse(Object.IFACE, Cause.DATACENTER, f"vlan#{vlan.id} is in another datacenter", "vlan")
    if spec.ip_version == 6:
        raise refuse(Object.IFACE, Cause.IP_VERSION_MISMATCH, "a vlan carries IPv4", "ip_version")
    if spec.ip is not None:
        _check_private(session, spec.ip, vlan)
    try:
        return give_private(session, iface, vlan.subnet, vlan.gateway, spec.ip)
    except SubnetExhausted as error:
        raise refuse(Object.IP, Cause.QUOTA_REACHED, str(error), "vlan") from None


def _check_private(session: Session, text: str, vlan: Vlan) -> None:
    try:
        address = IPv4Address(text)
    except ValueError as error:
        raise refuse(Object.IP, Cause.BADPARAMETER, f"ip: {error}", "ip") from None
    subnet = IPv4Network(vlan.subnet)
    if address not in subnet or address in (subnet.network_address, subnet.broadcast_address):
        raise refuse(Object.IP, Cause.BADPARAMETER, f"ip: {address} is no host of {subnet}", "ip")
    # a guest may well be the vlan's gateway
    taken = session.scalar(select(Ip.id).where(Ip.vlan_id == vlan.id, Ip.ip == str(address)))
    if taken is not None:
        raise refuse(Object.IP, Cause.EXIST, f"ip: {address} is in use", "ip")


@method("hosting.iface.update", "struct")
def update(call: Call, iface_id: IfaceId, iface_spec: IfaceUpdate) -> Struct:
    """Change the bandwidth of a network interface. Returns an iface_update operation."""
    with call.store.writing() as session:
        iface = own(session, call, Iface, iface_id)
        planned = Planned("iface_update", iface_id=iface.id)
        return operation.accept(session, call, planned, bandwidth=iface_spec.bandwidth)


@method("hosting.iface.delete", "struct")
def delete(call: Call, iface_id: IfaceId) -> Struct:
    """Delete a network interface, which must be detached, with its addresses. Returns an iface_delete
    operation."""
    with call.store.writing() as session:
        iface = own(session, call, Iface, iface_id)
        check_free(iface)
        return operation.accept(session, call, Planned("iface_delete", iface_id=iface.id))


@method("hosting.iface.migrate", "struct")
def migrate(call: Call, iface_id: IfaceId, target_dc: DatacenterId) -> Struct:
    """Migrate a detached network interface to another datacenter, where it has new addresses. Returns a
    hosting_migration_iface operation."""
    with call.store.writing() as session:
        iface = own(session, call, Iface, iface_id)
        target = room.other(session, iface.datacenter_id, target_dc, "target_dc")
        check_free(iface)
        reason = room.unmovable(iface)
        if reason is not None:
            raise refuse(Object.IFACE, Cause.INCOMPATIBILITY, reason, "iface_id")
        check_open(target, "target_dc")
        params = {"from_dc_id": iface.datacenter_id, "to_dc_id": target.id}
        planned = Planned("hosting_migration_iface", iface_id=iface.id, params=params)
        return operation.accept(session, call, planned, datacenter_id=target.id)
