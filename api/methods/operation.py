"""The namespace ``operation``: how far accepted work is."""

from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session

from api.methods.call import Call, Struct
from api.methods.faults import Cause, Object, not_found, refuse
from api.methods.filters import (
    NO_INTEGER,
    NO_TEXT,
    Columns,
    IntFilter,
    Page,
    TextFilter,
    counted,
    matching,
    paged,
)
from api.methods.ids import OperationId
from api.methods.parameters import Date, Parameters
from api.methods.table import method
from api.operations.cancel import NotCancellable, cancel
from api.operations.jobs import MIGRATION, Planned
from api.store.models import Disk, Job, Operation, now

_FINISHED = frozenset(("DONE", "ERROR", "CANCEL", "SUPPORT"))
# put together once: clients ask for it every second
_ONE = select(Operation).where(
    Operation.id == bindparam("identifier"), Operation.account_id == bindparam("owner")
)

COLUMNS: Columns = {
    "id": Operation.id,
    "type": Operation.type,
    "step": Operation.step,
    "vm_id": Operation.vm_id,
    "disk_id": Operation.disk_id,
    "iface_id": Operation.iface_id,
    "ip_id": Operation.ip_id,
    "source": Operation.source,
    "date_created": Operation.date_created,
    "date_updated": Operation.date_updated,
    "date_start": Operation.date_start,
    "disk.name": select(Disk.name).where(Disk.id == Operation.disk_id).scalar_subquery(),
    "cert.hostname": NO_TEXT,
    "cert_id": NO_INTEGER,
    "contact_id": NO_INTEGER,
    "domain": NO_TEXT,
    "mbox_id": NO_INTEGER,
    "site_id": NO_INTEGER,
}


class OperationCountOptions(Parameters):
    """Which operations. Keys about certificates, contacts, domains, mailboxes and sites match nothing."""

    id: IntFilter | None = None
    type: TextFilter | None = None
    step: TextFilter | None = None
    vm_id: IntFilter | None = None
    disk_id: IntFilter | None = None
    iface_id: IntFilter | None = None
    ip_id: IntFilter | None = None
    source: TextFilter | None = None
    date_created: Date | None = None
    date_updated: Date | None = None
    date_start: Date | None = None
    created_before: Annotated[Date | None, Field(alias="<date_created")] = None
    created_after: Annotated[Date | None, Field(alias=">date_created")] = None
    updated_before: Annotated[Date | None, Field(alias="<date_updated")] = None
    updated_after: Annotated[Date | None, Field(alias=">date_updated")] = None
    started_before: Annotated[Date | None, Field(alias="<date_start")] = None
    started_after: Annotated[Date | None, Field(alias=">date_start")] = None
    disk_name: Annotated[TextFilter | None, Field(alias="disk.name")] = None
    cert_hostname: Annotated[TextFilter | None, Field(alias="cert.hostname")] = None
    cert_id: IntFilter | None = None
    contact_id: IntFilter | None = None
    domain: TextFilter | None = None
    mbox_id: IntFilter | None = None
    site_id: IntFilter | None = None


class OperationListOptions(OperationCountOptions, Page):
    """Which operations, and which page of them."""


def show(record: Operation) -> Struct:
    """OperationReturn; `eta` in seconds."""
    return {
        "id": record.id,
        "type": record.type,
        "step": record.step,
        "vm_id": record.vm_id,
        "disk_id": record.disk_id,
        "iface_id": record.iface_id,
        "ip_id": record.ip_id,
        "vlan_id": record.params.get("vlan_id"),
        "cert_id": None,
        "source": record.source,
        "session_id": record.params.get("session_id", 0),
        "date_created": record.date_created,
        "date_updated": record.date_updated,
        "date_start": record.date_start,
        "eta": _eta(record),
        "last_error": record.last_error,
        "errortype": record.errortype,
        "params": record.params,
        "infos": _infos(record),
    }


def _eta(record: Operation) -> int:
    if record.step in _FINISHED:
        return 0
    elapsed = 0 if record.date_start is None else int((now() - record.date_start).total_seconds())
    return max(0, record.eta - elapsed)


def _infos(record: Operation) -> Struct:
    if record.type.startswith(MIGRATION):
        action, product = "migrate", record.type.removeprefix(MIGRATION)
    else:
        product, _, action = record.type.partition("_")
    concerned = record.params.get(f"{product}_id")
    return {
        "extras": {},
        "id": "" if concerned is None else str(concerned),
        "label": "",
        "product_action": action,
        "product_name": product,
        "product_type": product,
        "quantity": "1",
    }


def accept(session: Session, call: Call, planned: Planned, *claims: str, **arguments: Any) -> Struct:
    """Accept the work of the one operation `planned`, which the workflow named by its type does.

    The workflow gets the ids of the VM, the disk and the interface that the operation is about, and
    `arguments`; it waits for earlier work on these objects and on `claims`.
    """
    objects = {"vm": planned.vm_id, "disk": planned.disk_id, "iface": planned.iface_id}
    concerned = {kind: identifier for kind, identifier in objects.items() if identifier is not None}
    (accepted,) = call.submit(
        session,
        planned.type,
        {f"{kind}_id": identifier for kind, identifier in concerned.items()} | arguments,
        [planned],
        [*(f"{kind}:{identifier}" for kind, identifier in concerned.items()), *claims],
    )
    return show(accepted)


def _of(call: Call) -> Select[Operation]:
    return select(Operation).where(Operation.account_id == call.account.id)


def _find(call: Call, session: Session, identifier: int) -> Operation:
    record = session.scalar(_ONE, {"identifier": identifier, "owner": call.account.id})
    if record is None:
        raise not_found(Object.OPERATION, identifier)
    return record


@method("operation.list", returns="array", changes=False)
def list_(call: Call, opts: OperationListOptions | None = None) -> list[Struct]:
    """List operations."""
    query = paged(matching(_of(call), opts, COLUMNS), opts, COLUMNS)
    with call.store.reading() as session:
        return [show(record) for record in session.scalars(query)]


@method("operation.count", returns="int", changes=False)
def count(call: Call, opts: OperationCountOptions | None = None) -> int:
    """Count operations."""
    with call.store.reading() as session:
        return counted(session, matching(_of(call), opts, COLUMNS))


@method("operation.info", returns="struct", changes=False)
def info(call: Call, operation: OperationId) -> Struct:
    """Get information about an operation: its step, and why it failed."""
    with call.store.reading() as session:
        return show(_find(call, session, operation))


@method("operation.cancel", returns="boolean")
def cancel_(call: Call, operation: OperationId) -> bool:
    """Cancel an operation that has not begun, with the other operations of the same call.

    What they were to create vanishes. A migration can be cancelled until it is finalized, too: its operation
    becomes CANCEL when everything is as it was before.
    """
    with call.store.writing() as session:
        record = _find(call, session, operation)
        job = session.get_one(Job, record.job_id)
        try:
            cancel(session, job)
        except NotCancellable as reason:
            raise refuse(
                Object.OPERATION,
                Cause.INVALID_STEP,
                f"operation '{operation}' cannot be cancelled: {reason}",
            ) from None
        call.services.jobs.wake_after(session)
        call.services.jobs.tell_after(session, job.id)
    return True
