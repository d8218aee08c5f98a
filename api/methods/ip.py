"""The namespace ``hosting.ip``: the addresses of network interfaces."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from api.methods import operation
from api.methods.call import Call, Struct
from api.methods.faults import Cause, Object, not_found
from api.methods.filters import (
    Columns,
    IntFilter,
    Page,
    Pattern,
    TextFilter,
    counted,
    matching,
    paged,
)
from api.methods.ids import IpId
from api.methods.parameters import Date, Parameters, invalid, is_hostname
from api.methods.table import method
from api.operations.jobs import Planned
from api.store.models import Iface, Ip, Vm

_VM_ID = select(Iface.vm_id).where(Iface.id == Ip.iface_id).scalar_subquery()
_VM_HOSTNAME = (
    select(Vm.hostname).join(Iface, Iface.vm_id == Vm.id).where(Iface.id == Ip.iface_id).scalar_subquery()
)

COLUMNS: Columns = {
    "id": Ip.id,
    "datacenter_id": Ip.datacenter_id,
    "iface_id": Ip.iface_id,
    "ip": Ip.ip,
    "num": Ip.num,
    "reverse": Ip.reverse,
    "state": Ip.state,
    "version": Ip.version,
    "vm_id": _VM_ID,
    "vm_hostname": _VM_HOSTNAME,
    "date_created": Ip.date_created,
    "date_updated": Ip.date_updated,
}


def _versions(value: Any) -> Any:
    # documented as a string, sent as an integer by most clients; another text matches nothing
    listing = value if isinstance(value, list) else [value]
    if not any(isinstance(one, str) for one in listing):
        return value
    return [int(one) if one in ("4", "6") else 0 if isinstance(one, str) else one for one in listing]


def _reverse(value: str) -> str:
    name = value.removesuffix(".")
    if not is_hostname(name):
        raise invalid(
            Object.STRING, Cause.BADPARAMETER, f"reverse: {value[:80]!r} is not a host name (RFC 1123)"
        )
    return name


class IPCountOptions(Parameters):
    """Which addresses."""

    id: IntFilter | None = None
    datacenter_id: IntFilter | None = None
    iface_id: IntFilter | None = None
    ip: TextFilter | None = None
    num: IntFilter | None = None
    reverse: TextFilter | None = None
    state: TextFilter | None = None
    version: Annotated[IntFilter | None, BeforeValidator(_versions)] = None
    vm_id: IntFilter | None = None
    vm_hostname: TextFilter | None = None
    vm_hostname_like: Annotated[Pattern | None, Field(alias="~vm_hostname")] = None
    date_created: Date | None = None
    date_updated: Date | None = None


class IPListOptions(IPCountOptions, Page):
    """Which addresses, and which page of them."""


class IPUpdate(Parameters):
    """What to change of an address."""

    reverse: Annotated[str, AfterValidator(_reverse)]


def show(record: Ip) -> Struct:
    """IPReturn."""
    return {
        "id": record.id,
        "datacenter_id": record.datacenter_id,
        "iface_id": record.iface_id,
        "ip": record.ip,
        "num": record.num,
        "reverse": record.reverse,
        "state": record.state,
        "version": record.version,
        "date_created": record.date_created,
        "date_updated": record.date_updated,
    }


def _of(call: Call) -> Select[Ip]:
    return select(Ip).where(Ip.account_id == call.account.id)


def _find(call: Call, session: Session, identifier: int) -> Ip:
    record = session.scalar(_of(call).where(Ip.id == identifier))
    if record is None:
        raise not_found(Object.IP, identifier)
    return record


@method("hosting.ip.list", returns="array", changes=False)
def list_(call: Call, opts: IPListOptions | None = None) -> list[Struct]:
    """List IP addresses."""
    query = paged(matching(_of(call), opts, COLUMNS), opts, COLUMNS)
    with call.store.reading() as session:
        return [show(record) for record in session.scalars(query)]


@method("hosting.ip.count", returns="int", changes=False)
def count(call: Call, opts: IPCountOptions | None = None) -> int:
    """Count IP addresses."""
    with call.store.reading() as session:
        return counted(session, matching(_of(call), opts, COLUMNS))


@method("hosting.ip.info", returns="struct", changes=False)
def info(call: Call, ip_id: IpId) -> Struct:
    """Get information about an IP address."""
    with call.store.reading() as session:
        return show(_find(call, session, ip_id))


@method("hosting.ip.update", returns="struct")
def update(call: Call, ip_id: IpId, ip_spec: IPUpdate) -> Struct:
    """Change the reverse name of an IP address. Returns an ip_update operation."""
    with call.store.writing() as session:
        record = _find(call, session, ip_id)
        planned = Planned("ip_update", ip_id=record.id, iface_id=record.iface_id)
        record.reverse = ip_spec.reverse
        return operation.accept(session, call, planned)
