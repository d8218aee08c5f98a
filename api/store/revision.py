"""Which revision of the schema a database has, and which one this version wants."""

from sqlalchemy import column, inspect, select, table

from api.store.database import Store

HEAD = "0006"
"""The newest revision in `api.store.migrations`: a database that has it needs no upgrade, and Alembic, which
only an upgrade needs, is 11 MiB."""

_VERSION = table("alembic_version", column("version_num"))


def current(store: Store) -> str | None:
    """The revision of the database's schema, None for a database without one."""
    if not inspect(store.engine).has_table(_VERSION.name):
        return None
    with store.engine.connect() as connection:
        found: str | None = connection.scalar(select(_VERSION.c.version_num))
        return found
