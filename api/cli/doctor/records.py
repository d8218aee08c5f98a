"""The records: whether they can be read, by this version, and what the other looks want to know of them."""

import contextlib
import shlex
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Select, select
from sqlalchemy.exc import SQLAlchemyError

from api.settings import Settings
from api.store import revision
from api.store.database import Store
from api.store.models import Datacenter, Disk, Image, Operation
from hypervisor.doctor.finding import Finding, ok, problem, warning

T = TypeVar("T")


def examine(settings: Settings) -> Finding:
    """Their schema, and that they can be read."""
    subject = "records"
    file = _file(settings)
    if file is not None and not file.exists():
        return ok(subject, f"there are none in {file} yet: the first start makes them")
    try:
        if file is not None:
            _check(file)
        with contextlib.closing(Store(settings.database_url)) as opened:
            found = revision.current(opened)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = str(getattr(error, "orig", None) or error)
        return problem(subject, f"they cannot be read: {reason}; put a copy back", _copies(file))
    if found == revision.HEAD:
        return ok(subject, f"readable, with schema {found}")
    if found is not None and found > revision.HEAD:
        return problem(
            subject,
            f"a newer version wrote schema {found}, this one knows {revision.HEAD}: start that version",
            "pip install --upgrade hosting-api",
        )
    return warning(
        subject,
        f"they have schema {found or 'none'}: the next start copies them and brings them to {revision.HEAD}",
        "hypervisor serve",
    )


def newest(settings: Settings) -> datetime | None:
    """When the newest operation was last changed, in UTC; None when nothing tells."""
    return _asked(settings, select(Operation.date_updated).order_by(Operation.id.desc()).limit(1))


def base_of(settings: Settings, dc_code: str, label: str) -> str | None:
    """The volume of the datacenter's image with that label; None when there is none."""
    return _asked(
        settings,
        select(Disk.volume)
        .join(Image, Image.disk_id == Disk.id)
        .join(Datacenter, Datacenter.id == Image.datacenter_id)
        .where(Datacenter.dc_code == dc_code, Image.label == label),
    )


def _asked(settings: Settings, question: Select[T]) -> T | None:
    file = _file(settings)
    if file is not None and not file.exists():
        return None
    try:
        with contextlib.closing(Store(settings.database_url)) as opened, opened.reading() as session:
            return session.scalar(question)
    except SQLAlchemyError:
        return None  # `examine` says why


def _file(settings: Settings) -> Path | None:
    scheme, _, path = settings.database_url.partition(":///")
    return Path(path) if scheme == "sqlite" else None


def _copies(file: Path | None) -> str:
    return "" if file is None else shlex.join(["ls", "-l", str(file.parent)])


def _check(file: Path) -> None:
    """Raises when SQLite finds damage; only reads."""
    with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise sqlite3.DatabaseError(f"{file} is damaged ({said})")
