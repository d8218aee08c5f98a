"""What an account has and may have: virtual machines, cores, memory, disk, addresses and vlans.

Counted is also what accepted work is going to make of the objects: two calls cannot both be granted what is
left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.operations.run import UNFINISHED
from api.settings import AccountLimits
from api.store.models import Account, Disk, Ip, Job, Operation, Vlan, Vm

UNITS = {"memory": " MiB", "disk": " MiB"}
"""What follows the numbers of a kind."""

_GROWS = ("vm_update", "disk_update", "disk_rollback_from")


class LimitReached(Exception):
    """The account would have more than it may: more of `kind` than `limit`, by the `asked` beside the
    `used`."""

    def __init__(self, kind: str, asked: int, used: int, limit: int) -> None:
        unit = UNITS.get(kind, "")
        super().__init__(
            f"{kind}: {asked}{unit} asked for, {used}{unit} in use, and the account's limit is {limit}{unit}"
        )
        self.kind = kind


@dataclass(frozen=True, slots=True)
class _Coming:
    """What accepted work makes of objects: the most of it by their ids, in MiB but for the cores."""

    cores: dict[int, int] = field(default_factory=dict)
    memory: dict[int, int] = field(default_factory=dict)
    disk: dict[int, int] = field(default_factory=dict)


def limits_of(account: Account, defaults: AccountLimits) -> dict[str, int | None]:
    """The most that the account may have of each kind: its own limit, else the default; None is no limit."""
    return {**defaults.model_dump(), **(account.limits or {})}


def used(session: Session, account_id: int) -> dict[str, int]:
    """What the account's objects take of each kind, accepted work included: memory and disk in MiB.

    The memory of a VM is its `vm_max_memory`: only the guest's own goodwill keeps it below.
    """
    living = (Vm.account_id == account_id, Vm.state != "deleted")
    vms, cores, memory = session.execute(
        select(func.count(), func.sum(Vm.cores), func.sum(Vm.vm_max_memory)).where(*living)
    ).one()
    disk = session.scalar(select(func.sum(Disk.size)).where(Disk.account_id == account_id)) or 0
    coming = _coming(session, account_id)
    for vm in _those(session, Vm, {*coming.cores, *coming.memory}):
        if vm.state != "deleted":
            cores += max(0, coming.cores.get(vm.id, 0) - vm.cores)
            memory += max(0, coming.memory.get(vm.id, 0) - vm.vm_max_memory)
    for one in _those(session, Disk, coming.disk):
        disk += max(0, coming.disk[one.id] - one.size)
    addresses = session.scalar(select(func.count(Ip.id)).where(Ip.account_id == account_id)) or 0
    vlans = session.scalar(select(func.count(Vlan.id)).where(Vlan.account_id == account_id)) or 0
    return {
        "vms": vms,
        "cores": cores or 0,
        "memory": memory or 0,
        "disk": disk,
        "addresses": addresses,
        "vlans": vlans,
    }


def reserve(session: Session, account_id: int, defaults: AccountLimits, **asked: int) -> None:
    """Make sure that the account may have what is `asked` of some kinds beside what it has.

    Holds the account until the end of the transaction, in which the objects are to be recorded. Raises
    `LimitReached`, never for a kind of which nothing more is asked.
    """
    account = session.get_one(Account, account_id, with_for_update=True)
    limits = limits_of(account, defaults)
    wanted = {kind: more for kind, more in asked.items() if more > 0 and limits[kind] is not None}
    if not wanted:
        return
    now = used(session, account_id)
    for kind, more in wanted.items():
        limit = limits[kind]
        if limit is not None and now[kind] + more > limit:
            raise LimitReached(kind, more, now[kind], limit)


def growth(session: Session, record: Vm | Disk, **sizes: int) -> dict[str, int]:
    """How much more of each kind the VM or the disk takes once it has `sizes`, 0 for what shrinks.

    `sizes` are `cores` and `memory` (`vm_max_memory`) of a VM, `disk` of a disk.
    """
    coming = _coming(session, record.account_id)
    if isinstance(record, Vm):
        has = {"cores": record.cores, "memory": record.vm_max_memory}
    else:
        has = {"disk": record.size}
    return {
        kind: max(0, size - max(has[kind], getattr(coming, kind).get(record.id, 0)))
        for kind, size in sizes.items()
    }


def coming_size(session: Session, disk: Disk) -> int:
    """The size of the disk in MiB once accepted work is done; an image, which is nobody's, stays as it is."""
    if disk.account_id is None:
        return disk.size
    return max(disk.size, _coming(session, disk.account_id).disk.get(disk.id, 0))


def _coming(session: Session, account_id: int | None) -> _Coming:
    accepted = session.execute(
        select(Job.workflow, Job.arguments)
        .join(Operation)
        .where(Operation.account_id == account_id, Operation.step.in_(UNFINISHED), Operation.type.in_(_GROWS))
        .order_by(Job.id)
    )
    coming = _Coming()
    for workflow, arguments in accepted:
        _add(session, coming, workflow, arguments)
    return coming


def _add(session: Session, coming: _Coming, workflow: str, arguments: dict[str, Any]) -> None:
    if workflow == "vm_update":
        _raise(coming.cores, arguments["vm_id"], arguments["changes"].get("cores"))
        _raise(coming.memory, arguments["vm_id"], arguments["changes"].get("vm_max_memory"))
    elif workflow == "disk_update":
        _raise(coming.disk, arguments["disk_id"], arguments["size"])
    else:
        snapshot = session.get(Disk, arguments["snapshot_id"])
        size = None if snapshot is None else max(snapshot.size, coming.disk.get(snapshot.id, 0))
        _raise(coming.disk, arguments["disk_id"], size)


def _raise(sizes: dict[int, int], identifier: int, size: int | None) -> None:
    if size is not None:
        sizes[identifier] = max(size, sizes.get(identifier, 0))


def _those(session: Session, model: Any, identifiers: Any) -> Sequence[Any]:
    if not identifiers:
        return ()
    return session.scalars(select(model).where(model.id.in_(identifiers))).unique().all()
