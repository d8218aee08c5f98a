"""The file of the statistics: its tables, and how it is opened or made anew."""

import logging
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Column, Float, Integer, MetaData, String, Table, UniqueConstraint, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from api.store.database import Store
from api.store.errors import StoreError

log = logging.getLogger(__name__)

_VERSION = 1

_METADATA = MetaData()
SERIES = Table(
    "series",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("vm_id", Integer, nullable=False),
    Column("metric", String(32), nullable=False),
    Column("object_id", Integer, nullable=False),
    Column("direction", String(16), nullable=False),
    UniqueConstraint("vm_id", "metric", "object_id", "direction"),
)
POINT = Table(
    "point",
    _METADATA,
    Column("series_id", Integer, primary_key=True),
    Column("step", Integer, primary_key=True),  # 0 for a sample, else the seconds averaged
    Column("at", Integer, primary_key=True),  # the end of what it is about, in seconds since 1970
    Column("seconds", Float, nullable=False),
    Column("value", Float, nullable=False),
    sqlite_with_rowid=False,
)


class Unusable(StoreError):
    """The file is damaged, or of another version."""


def open_file(file: Path) -> Store:
    """The store in `file`; one that cannot be used is made anew."""
    try:
        return _usable(file)
    except (DatabaseError, Unusable) as error:
        log.warning("the statistics in %s cannot be used and begin anew: %s", file, error)
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            file.with_name(file.name + suffix).unlink()
    return _usable(file)


def _usable(file: Path) -> Store:
    # a crash of the machine may take the last transactions, never the whole
    store = Store(f"sqlite:///{file}", synchronous="NORMAL")
    try:
        with store.writing() as session:
            _check(session)
            _METADATA.create_all(session.connection())
            session.execute(text(f"PRAGMA user_version = {_VERSION}"))
    except BaseException:
        store.close()
        raise
    return store


def _check(session: Session) -> None:
    version = session.scalar(text("PRAGMA user_version"))
    if session.scalar(text("SELECT count(*) FROM sqlite_master")) and version != _VERSION:
        raise Unusable(f"its version is {version}, not {_VERSION}")
    checked = session.scalar(text("PRAGMA quick_check(1)"))
    if checked != "ok":
        raise Unusable(str(checked))
