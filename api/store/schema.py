"""The schema: created at the first start, brought up to date at a later one."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from api.store.database import Store
from api.store.errors import StoreError

_MIGRATIONS = Path(__file__).parent / "migrations"
KEPT = 3
"""Copies of a file that are kept, the newest."""

_LOCK = 0x68766D  # any number, so that two processes on one PostgreSQL database take turns


class SchemaError(StoreError):
    """The database cannot be used as it is; the text says what to do."""


def upgrade(store: Store, beside: Sequence[Path] = ()) -> list[Path]:
    """Create the schema of an empty database, or bring that of an older version up to date.

    Before it is changed, copies are made of an SQLite file and of those `beside` it that are there, databases
    that only fit together: ``store.db.0004.20260131T120000Z`` has the schema 0004. Returns their paths, none
    when there was nothing to keep. Raises `SchemaError` for a database that a newer version or another
    program wrote.
    """
    config = _config()
    scripts = ScriptDirectory.from_config(config)
    with _exclusively(store) as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
        _check(connection, store, revision, scripts)
        if revision == scripts.get_current_head():
            return []
        copies = _copy(connection, revision, beside) if revision else []
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _check_references(connection)
    return copies


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


def _check(connection: Connection, store: Store, revision: str | None, scripts: ScriptDirectory) -> None:
    place = store.engine.url.render_as_string(hide_password=True)
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        copies = _copies(_file(connection))
        raise SchemaError(
            f"the database {place} has the schema revision {revision!r}, and this version knows none after "
            f"{scripts.get_current_head()!r}: a newer version wrote it. Start that version, or put back the "
            f"copy that it made before its upgrade ({copies[-1] if copies else 'there is none beside it'})"
        )
    if revision is None and inspect(connection).get_table_names():
        raise SchemaError(
            f"the database {place} has tables, but no schema revision of this program: name an empty "
            "database in the setting `database`, or move this one away"
        )


def _file(connection: Connection) -> Path | None:
    """The SQLite file, None for another database."""
    name = connection.engine.url.database
    if connection.dialect.name != "sqlite" or not name or name == ":memory:":
        return None
    return Path(name)


def _copy(connection: Connection, revision: str, beside: Sequence[Path]) -> list[Path]:
    file = _file(connection)
    if file is None:
        return []
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    made = []
    for one in (file, *beside):
        if not one.exists():
            continue
        copy = one.with_name(f"{one.name}.{revision}.{moment}")
        new = copy.with_name(f"{copy.name}.new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        # another connection sees what was committed, while ours keeps writers away
        with closing(sqlite3.connect(one)) as source, closing(sqlite3.connect(new)) as target:
            source.backup(target)
        new.rename(copy)
        made.append(copy)
        for old in _copies(one)[:-KEPT]:
            old.unlink()
    return made


def _copies(file: Path | None) -> list[Path]:
    """The copies of `file`, the newest last."""
    if file is None:
        return []
    found = file.parent.glob(f"{file.name}.*.????????T??????Z")
    return sorted(found, key=lambda copy: copy.name.rsplit(".", 1)[-1])


def _check_references(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        return
    broken = connection.execute(text("PRAGMA foreign_key_check")).all()
    if broken:
        tables = ", ".join(sorted({str(row[0]) for row in broken}))
        raise SchemaError(
            f"the upgrade would have left references to missing rows in {tables}; nothing was changed"
        )
