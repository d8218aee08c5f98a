"""The new database."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine, Table, func, inspect, select, text
from sqlalchemy.orm import Session

from api.operations.notes import COUNTED
from api.operations.rebuild.compose import Records
from api.operations.rebuild.ids import Ids
from api.settings import Settings
from api.store.content import populate
from api.store.database import Store
from api.store.errors import StoreError
from api.store.keys import digest, new_key
from api.store.models import Account, ApiKey, Datacenter

_KEY = "rebuilt"
_OF_SETTINGS = ("datacenter", "alembic_version")


class HasRecords(StoreError):
    """There are records: they are not made anew over these."""


def check_empty(store: Store, place: str) -> None:
    """Raise `HasRecords` unless the database has no records but what the settings say."""
    for name in inspect(store.engine).get_table_names():
        if name not in _OF_SETTINGS and _rows(store.engine, name):
            raise HasRecords(
                f"{place} has records (in its table {name}), which `hypervisor rebuild` does not write over: "
                "look at them with `hypervisor reconcile`; if they are of no use, stop the service, move the "
                "database away with its -wal and -shm files, and run this again"
            )


def _rows(engine: Engine, name: str) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(select(func.count()).select_from(text(f'"{name}"'))) or 0)


def write(
    store: Store, settings: Settings, datacenters: Iterable[Datacenter], records: Records, ids: Ids
) -> dict[Account, str]:
    """Write everything in one transaction, with a new API key for each account; returns the keys."""
    with store.writing() as session:
        for datacenter in datacenters:
            if session.get(Datacenter, datacenter.id) is None:
                session.add(datacenter)
        session.flush()
        populate(session, settings)
        if not records.accounts:
            records.accounts[1] = Account(id=1, handle=settings.account)
        for table in records.in_order:
            session.add_all(table.values())
            session.flush()
            for number, record in table.items():
                ids.saw(record.__tablename__, number)
        keys = {}
        for number, account in sorted(records.accounts.items()):
            first = number == min(records.accounts)
            key = settings.api_key if first and settings.api_key is not None else new_key()
            session.add(ApiKey(account_id=account.id, digest=digest(key), label=_KEY))
            keys[account] = key
        session.flush()
        for name, model in COUNTED.items():
            _continue_after(session, model.__table__, ids.next_start(name))
        return keys


def _continue_after(session: Session, table: Any, number: int) -> None:
    """Let the table's next id be above `number`."""
    assert isinstance(table, Table)  # noqa: S101 - what every model has
    if session.get_bind().dialect.name != "sqlite":
        sequence = select(func.setval(func.pg_get_serial_sequence(table.name, "id"), number))
        session.execute(sequence)
        return
    given = {"name": table.name, "seq": number}
    session.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
    session.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), given)
