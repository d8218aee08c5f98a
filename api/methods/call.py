"""One request on its way through the methods."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam
from sqlalchemy.orm import Session

from api.methods.audit import Audit
from api.methods.faults import Cause, Object, refuse
from api.methods.graph.links import Links
from api.operations.jobs import DryRunPassed, Jobs, Origin, Planned, migrating
from api.operations.pools import Rooms
from api.operations.run import UNFINISHED
from api.settings import Limits, SnapshotProfileSettings
from api.store.database import Store
from api.store.models import Account, Claim, Job, Operation
from api.store.statistics import Statistics

Struct = dict[str, Any]

_KINDS = {"vm": Object.VM, "disk": Object.DISK, "iface": Object.IFACE, "vlan": Object.VLAN}


@dataclass(frozen=True, slots=True)
class Services:
    """What the methods work with."""

    store: Store
    jobs: Jobs
    limits: Limits
    console_url: str
    snapshot_profiles: Sequence[SnapshotProfileSettings]
    statistics: Statistics
    links: Links
    room: Rooms
    libvirt_uri: str
    audit: Audit


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, from where, by which URL of the service's root, and with what at hand.

    `accepted` hears of the operations that come of it.
    """

    account: Account
    remote_address: str
    services: Services
    dry_run: bool = False
    root: str = ""
    accepted: Callable[[Sequence[Operation]], None] = lambda _operations: None

    @property
    def store(self) -> Store:
        """The records."""
        return self.services.store

    @property
    def limits(self) -> Limits:
        """What one object may ask for."""
        return self.services.limits

    def check_only(self) -> None:
        """Raise `DryRunPassed` when the caller only wanted the checks."""
        if self.dry_run:
            raise DryRunPassed

    def submit(
        self,
        session: Session,
        workflow: str,
        arguments: dict[str, Any],
        planned: Sequence[Planned],
        claims: Sequence[str],
    ) -> list[Operation]:
        """Accept the work that the call asks for: see `Jobs.submit`. Raises the PENDING fault when it would
        wait for a migration, which ends when somebody says so."""
        check_not_migrating(session, claims)
        origin = Origin(self.account, self.remote_address, self.dry_run)
        operations = self.services.jobs.submit(session, origin, workflow, arguments, planned, claims)
        self.accepted(operations)
        return operations


# put together once: every change asks for it; a migration that has ended may still be letting go, which is
# waited for
_HELD = migrating().where(
    Claim.resource.in_(bindparam("claims", expanding=True)),
    Job.operations.any(Operation.step.in_(UNFINISHED)),
)


def check_not_migrating(session: Session, claims: Sequence[str]) -> None:
    """Refuse work on what an unfinished migration has: the fault is about the first such claim."""
    held = set(session.scalars(_HELD, {"claims": claims}))
    resource = next((one for one in claims if one in held), None)
    if resource is not None:
        kind, _, identifier = resource.partition(":")
        raise refuse(
            _KINDS[kind],
            Cause.PENDING,
            f"{kind}#{identifier} is being migrated: finalize that or cancel its operation first",
            f"{kind}_id",
        )
