"""One request on its way through the methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from api.methods.graph.links import Links
from api.operations.jobs import Jobs, Origin, Planned
from api.settings import Limits, SnapshotProfileSettings
from api.store.database import Store
from api.store.models import Account, Operation
from api.store.statistics import Statistics

Struct = dict[str, Any]


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


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, from where, by which URL of the service's root, and with what at hand."""

    account: Account
    remote_address: str
    services: Services
    dry_run: bool = False
    root: str = ""

    @property
    def store(self) -> Store:
        """The records."""
        return self.services.store

    @property
    def limits(self) -> Limits:
        """What one object may ask for."""
        return self.services.limits

    def submit(
        self,
        session: Session,
        workflow: str,
        arguments: dict[str, Any],
        planned: Sequence[Planned],
        claims: Sequence[str],
    ) -> list[Operation]:
        """Accept the work that the call asks for: see `Jobs.submit`."""
        origin = Origin(self.account, self.remote_address, self.dry_run)
        return self.services.jobs.submit(session, origin, workflow, arguments, planned, claims)
