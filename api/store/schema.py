"""The schema: created at the first start, brought up to date at a later one."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from api.store.database import Store
from api.store.errors import StoreError

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x68766D  # any number, so that two processes on one PostgreSQL database take turns


class SchemaError(StoreError):
    """The database cannot be used as it is; the text says what to do."""


def upgrade(store: Store) -> str | None:
    """Create the schema of an empty database, or bring that of an older version up to date.

    Returns the path of the copy that was made of an SQLite file before it was changed, None when there was
    nothing to keep. Raises `SchemaError` for a database that a newer version or another program wrote.
    """
    config = _config()
    scripts = ScriptDirectory.from_config(config)
    with _exclusively(store) as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
        _check(connection, store, revision, {script.revision for script in scripts.walk_revisions()})
        if revision == scripts.get_current_head():
            return None
        copy = _backup(connection, revision) if revision else None
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _check_references(connection)
    return copy


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _exclusively(store: Store) -> Iterator[Connection]:
    """One transaction that nobody else's upgrade runs beside."""
    with store.engine.connect() as connection:
        if connection.dialect.name != "sqlite":
            with connection.begin():
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                yield connection
            return
        driver = connection.connection.driver_connection
        assert driver is not None  # noqa: S101 - a connection that is checked out has one
        # a table is altered by making it anew, which the references to it must not notice
        driver.execute("PRAGMA foreign_keys=OFF")
        try:
            connection = connection.execution_options(write_lock=True)
            with connection.begin():
                yield connection
        finally:
            driver.execute("PRAGMA foreign_keys=ON")


def _check(connection: Connection, store: Store, revision: str | None, known: set[str]) -> None:
    place = store.engine.url.render_as_string(hide_password=True)
    if revision is not None and revision not in known:
        raise SchemaError(
            f"the database {place} has the schema revision {revision!r}, which this version does not know: a "
            "newer version wrote it. Start that version, or put back the copy that it made before its upgrade"
        )
    if revision is None and inspect(connection).get_table_names():
        raise SchemaError(
            f"the database {place} has tables, but no schema revision of this program: name an empty "
            "database in the setting `database`, or move this one away"
        )


def _backup(connection: Connection, revision: str) -> str | None:
    file = connection.engine.url.database
    if connection.dialect.name != "sqlite" or not file or file == ":memory:":
        return None
    copy = Path(f"{file}.{revision}")
    copy.unlink(missing_ok=True)
    copy.touch(mode=0o600)
    # another connection sees what was committed, while this one keeps writers away
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return str(copy)


def _check_references(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        return
    broken = connection.execute(text("PRAGMA foreign_key_check")).all()
    if broken:
        tables = ", ".join(sorted({str(row[0]) for row in broken}))
        raise SchemaError(
            f"the upgrade would have left references to missing rows in {tables}; nothing was changed"
        )
