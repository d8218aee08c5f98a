"""Console logs of machines that are gone."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.operations.backend import Backend
from api.operations.reconcile.finding import Finding
from api.operations.survey import Survey
from api.store.models import Vm
from hypervisor.domain import console_log

_LOG = re.compile(r"(?P<uuid>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\.log(\.[0-9]+)?")


def compare(session: Session, seen: Survey, folder: Path) -> Iterator[Finding]:
    """The logs in `folder`, by machine."""
    known = set(session.scalars(select(Vm.uuid).where(Vm.state != "deleted")))
    for place in seen.places.values():
        known |= place.domains.keys()
    names = (file.name for file in folder.iterdir()) if folder.is_dir() else iter(())
    matches = (_LOG.fullmatch(name) for name in names)
    for uuid in sorted({match["uuid"] for match in matches if match is not None} - known):
        file = folder / f"{uuid}.log"
        yield Finding(
            f"log:{uuid}", f"the console log {file} is of no VM", "removes it", partial(_remove, file=file)
        )


def _remove(_backend: Backend, file: Path) -> None:
    console_log.remove(file)
