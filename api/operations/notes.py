"""What the records say of a virtual machine, kept with its domain too, so that they can be made anew.

It stands in the domain's metadata as JSON: the machine, its disks with their snapshots, its interfaces with
their addresses, its owner with the owner's public keys, its triggers, and the highest ids in use. What the
guest is told at its first boot is left out: a password's hash is in it, and the seed's volume holds it all.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.operations.backend import Backend
from api.store import models
from api.store.models import Account, Claim, Datacenter, Disk, Iface, Record, SshKey, Vm, now
from api.store.plain import plain
from hypervisor.domain import power
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import NoDomain

log = logging.getLogger(__name__)

VERSION = 1

COUNTED: dict[str, type[Record]] = {
    model.__tablename__: model
    for model in (
        models.Account, models.Datacenter, models.Image, models.Disk, models.Vm, models.VmTrigger,
        models.Vlan, models.Iface, models.Ip, models.SshKey, models.Job, models.Operation,
    )
}  # fmt: skip
"""The tables whose ids are never used twice, by name."""

_LAST = select(
    *(
        func.coalesce(select(func.max(model.__table__.c.id)).scalar_subquery(), 0)
        for model in COUNTED.values()
    )
)

# what changes by itself, or is libvirt's to tell
_OF_VM = ("seed", "state", "is_migrating")
_OF_DISK = ("state",)
# what follows one change within that many seconds is written with it, but none later than that
_QUIET = 0.5
_LATEST = 5.0

_PASSING = re.compile(r'"(date_updated|written)":"[^"]*"|"last":{[^}]*}')


def compose(session: Session, vm: Vm) -> str:
    """The notes of the VM as the records are now, on one line of ASCII."""
    keys = select(SshKey).where(SshKey.account_id == vm.account_id).order_by(SshKey.id)
    here = session.get_one(Datacenter, vm.datacenter_id)
    document = {
        "version": VERSION,
        "written": now().isoformat(),
        "vm": plain(vm, without=_OF_VM),
        "datacenter": {"id": here.id, "dc_code": here.dc_code},
        "account": plain(session.get_one(Account, vm.account_id)),
        "keys": [plain(key) for key in session.scalars(keys)],
        "disks": [plain(disk, without=_OF_DISK) for disk in vm.disks],
        "snapshots": [
            plain(one, without=_OF_DISK) for disk in vm.disks for one in disk.snapshots if one.vm_id is None
        ],
        "ifaces": [plain(iface, without=("state",)) for iface in vm.ifaces],
        "ips": [plain(ip, without=("state",)) for iface in vm.ifaces for ip in iface.ips],
        "triggers": [plain(trigger) for trigger in vm.triggers],
        "last": last_ids(session),
    }
    return json.dumps(document, separators=(",", ":"))


def read(text: str) -> dict[str, Any] | None:
    """What notes say; None when there are none, or none that this version reads."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    if not isinstance(document, dict) or document.get("version") != VERSION:
        return None
    return document


def last_ids(session: Session) -> dict[str, int]:
    """The highest id in each table of `COUNTED`, 0 in an empty one."""
    found = session.execute(_LAST).one()
    return dict(zip(COUNTED, found, strict=True))


def same(one: str, other: str) -> bool:
    """Whether two notes differ in nothing but what changes by itself."""
    return _PASSING.sub("", one) == _PASSING.sub("", other)


def _machines(session: Session, resource: str) -> Iterator[int]:
    kind, _, number = resource.partition(":")
    if kind == "vm":
        yield int(number)
    record = {"disk": Disk, "iface": Iface}.get(kind)
    found: Any = None if record is None else session.get(record, int(number))
    if isinstance(found, Disk) and found.vm_id is None and found.source_id is not None:
        found = session.get(Disk, found.source_id)
    if found is not None and found.vm_id is not None:
        yield found.vm_id


def _bring_in_line(backend: Backend, vm_id: int) -> None:
    """Write the notes of a machine when they have changed; a host that is away keeps those that it has."""
    with backend.store.reading() as session:
        vm = session.get(Vm, vm_id)
        # a job that has the machine may be defining it; its end tells of it again
        busy = select(Claim.resource).where(Claim.resource == f"vm:{vm_id}").limit(1)
        if vm is None or vm.state == "deleted" or session.scalar(busy) is not None:
            return
        wanted = compose(session, vm)
    try:
        connection = backend.hosts.handle(vm.datacenter_id, wait=1)
        if not same(power.notes(connection, vm.uuid), wanted):
            power.note(connection, vm.uuid, wanted)
    except NoDomain:
        return
    except HypervisorError as error:
        log.warning("vm#%d: its domain's notes are not up to date: %s", vm_id, error)


class Keeper:
    """Keeps the notes of the machines in line with the records, in a thread of its own.

    At its start it looks at all of them once, as those of an earlier version have none and a crash leaves old
    ones; then at those that jobs were about, when no job has ended for half a second, or for five.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._changed = threading.Condition()
        self._told: set[str] = set()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="notes", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, as soon as what was told is in line."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def tell(self, resources: Iterable[str]) -> None:
        """Say what a job was about that has ended; callable from any thread."""
        with self._changed:
            self._told.update(resources)
            self._changed.notify()

    def _work(self) -> None:
        with self._backend.store.reading() as session:
            vms = session.scalars(select(Vm.id).where(Vm.state != "deleted").order_by(Vm.id)).all()
        for vm_id in vms:
            if self._stopped:
                break
            self._look({f"vm:{vm_id}"})
        while told := self._next():
            self._look(told)

    def _next(self) -> set[str]:
        """What jobs were about, when it is quiet; what is left of it, if anything, at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._told or self._stopped)
            latest = time.monotonic() + _LATEST
            while not self._stopped and (left := latest - time.monotonic()) > 0:
                if not self._changed.wait(min(_QUIET, left)):
                    break
            told, self._told = self._told, set()
            return told

    def _look(self, resources: set[str]) -> None:
        try:
            with self._backend.store.reading() as session:
                vms = {vm_id for one in resources for vm_id in _machines(session, one)}
            for vm_id in sorted(vms):
                _bring_in_line(self._backend, vm_id)
        except Exception:
            # as when the records cannot be read for a while: the thread goes on with what comes next
            log.exception("notes of %s", ", ".join(sorted(resources)))
