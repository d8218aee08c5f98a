"""Accepting work: a call that passed every check becomes a job with its operations, in the caller's
transaction."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, event, select
from sqlalchemy.orm import Session

from api.operations.story import accepted_after
from api.store.models import Account, Claim, Job, Operation

MIGRATION = "hosting_migration_"
"""What the names of migrations' workflows and operations begin with."""


class DryRunPassed(Exception):
    """The call would have been accepted."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asks for the work."""

    account: Account
    remote_address: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """An operation to be made: its type, the objects it concerns, its estimated length in seconds."""

    type: str
    vm_id: int | None = None
    disk_id: int | None = None
    iface_id: int | None = None
    ip_id: int | None = None
    eta: int = 1
    params: dict[str, Any] = field(default_factory=dict)


class Jobs:
    """The queue's entrance; `wake` is called once accepted work is committed, `tell` with the id of a job
    that was told something."""

    def __init__(self, wake: Callable[[], None], tell: Callable[[int], None]) -> None:
        self._wake = wake
        self._tell = tell

    def submit(
        self,
        session: Session,
        origin: Origin,
        workflow: str,
        arguments: dict[str, Any],
        planned: Sequence[Planned],
        claims: Iterable[str],
    ) -> list[Operation]:
        """Record a job that runs `workflow` with `arguments` and shows as the `planned` operations.

        It starts when no unfinished job accepted earlier claims one of the same resources (``vm:12``,
        ``disk:7``).
        Raises `DryRunPassed` instead of recording anything when the caller only wanted the checks.
        """
        if origin.dry_run:
            raise DryRunPassed
        job = Job(workflow=workflow, arguments=arguments)
        job.claims = [Claim(resource=resource) for resource in sorted(set(claims))]
        session.add(job)
        # one row at a time, so that the ids follow the order of the operations
        operations = []
        for plan in planned:
            operation = Operation(
                job=job,
                account_id=origin.account.id,
                type=plan.type,
                vm_id=plan.vm_id,
                disk_id=plan.disk_id,
                iface_id=plan.iface_id,
                ip_id=plan.ip_id,
                source=origin.account.handle,
                eta=plan.eta,
                params=_params(origin, plan),
            )
            session.add(operation)
            session.flush()
            operations.append(operation)
        accepted_after(session, operations)
        self.wake_after(session)
        return operations

    def wake_after(self, session: Session) -> None:
        """Let the queue look for startable jobs once `session` has committed."""
        event.listen(session, "after_commit", lambda _session: self._wake(), once=True)

    def tell_after(self, session: Session, job_id: int) -> None:
        """Let the running job see what it was told once `session` has committed."""
        event.listen(session, "after_commit", lambda _session: self._tell(job_id), once=True)


def migrating() -> Select[str]:
    """The resources that migrations have claimed."""
    return select(Claim.resource).join(Job).where(Job.workflow.startswith(MIGRATION))


def _params(origin: Origin, plan: Planned) -> dict[str, Any]:
    concerned = {
        "vm_id": plan.vm_id,
        "disk_id": plan.disk_id,
        "iface_id": plan.iface_id,
        "ip_id": plan.ip_id,
    }
    return {
        "param_type": plan.type,
        "remote_addr": origin.remote_address,
        "session_id": 0,
        "auth_id": origin.account.id,
        "tracker_id": str(uuid.uuid4()),
        **{key: value for key, value in concerned.items() if value is not None},
        **plan.params,
    }
