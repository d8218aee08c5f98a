"""All differences at one moment."""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.operations import survey
from api.operations.hosts import Hosts
from api.operations.reconcile import logs, machines, networks, volumes
from api.operations.reconcile.finding import Finding
from api.operations.survey import Survey
from api.store.database import Store
from api.store.models import Claim, Datacenter


def differences(store: Store, hosts: Hosts, console_logs: Path) -> tuple[list[Finding], list[str]]:
    """What differs, and why datacenters were left out.

    The service may run meanwhile: what an unfinished operation has is left alone, and a difference counts
    only when the records from before the look at libvirt show it and those from after it.
    """
    with store.reading() as before:
        datacenters = before.scalars(select(Datacenter).order_by(Datacenter.id)).all()
        seen = survey.take(hosts, datacenters)
        # SQLite keeps showing this transaction the records of its beginning
        earlier = set(_compare(before, hosts, seen, console_logs))
    with store.reading() as after:
        later = list(_compare(after, hosts, seen, console_logs))
    return [one for one in later if one in earlier], seen.away


def _compare(session: Session, hosts: Hosts, seen: Survey, console_logs: Path) -> Iterator[Finding]:
    held = set(session.scalars(select(Claim.resource)))
    for place in seen.places.values():
        near = hosts.is_near(place.datacenter.id)
        for found in (
            machines.compare(session, place),
            volumes.compare(session, place),
            networks.compare(session, place, near=near),
        ):
            yield from (one for one in found if one.about not in held)
    yield from (one for one in logs.compare(session, seen, console_logs) if one.about not in held)
