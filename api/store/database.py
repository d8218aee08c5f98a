"""Opening the database: SQLite in the state folder by default, PostgreSQL by URL."""

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Engine, Executable, Row, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

_PATIENCE = 30  # seconds that a transaction waits for another one's lock


class Store:
    """The records, and transactions on them."""

    def __init__(self, url: str, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> None:
        """SQLite waits for the disk at each commit, or with ``NORMAL`` only now and then."""
        self.url = url
        self.engine = _open(url, synchronous)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that sees one state of the records and changes nothing."""
        with self._sessions() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that holds the write lock from its start, so that what it checked stays true."""
        with self._sessions() as session, session.begin():
            session.connection(execution_options={"write_lock": True})
            yield session

    def row(self, statement: Executable, parameters: Mapping[str, Any]) -> Row[*tuple[Any, ...]] | None:
        """The one row that `statement` finds, whatever it selects of a record as columns; for what every call
        needs, as it costs a third of a session."""
        with self.engine.connect() as connection:
            return connection.execute(statement, parameters).one_or_none()

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


def is_out_of_reach(error: OperationalError) -> bool:
    """Whether the database could not do what it was asked for (a full disk, a lock, a server that is away);
    SQLite says of a wrong question as well that it is an operational error."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code is None or code & 0xFF != sqlite3.SQLITE_ERROR


def _open(url: str, synchronous: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_size=20, max_overflow=40)
    engine = create_engine(
        url,
        connect_args={"timeout": _PATIENCE, "check_same_thread": False},
        pool_size=20,
        max_overflow=40,
        # the connection used last has the pages and the statements at hand
        pool_use_lifo=True,
    )

    file = engine.url.database
    if file and not file.startswith((":memory:", "file:")):
        # its owner's alone: there are password hashes in it
        Path(file).touch(mode=0o600)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in (f"synchronous={synchronous}", "foreign_keys=ON", f"busy_timeout={_PATIENCE * 1000}"):
            connection.execute(f"PRAGMA {pragma}")
        _use_wal(connection)

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        writes = connection.get_execution_options().get("write_lock")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN DEFERRED")

    return engine


def _use_wal(connection: Any) -> None:
    # a new file is switched once, and SQLite's own patience does not cover that
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
