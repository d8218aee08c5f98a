"""Transactions: what one sees, what one holds."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from api.operations.run import keep
from api.store.database import Store
from api.store.models import Account
from api.store.schema import upgrade


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with its schema."""
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    upgrade(store)
    yield store
    store.close()


def test_pragmas(store: Store) -> None:
    with store.reading() as session:
        found = {
            name: session.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30000}


def test_what_was_written_is_there(store: Store) -> None:
    with store.writing() as session:
        session.add(Account(handle="ALICE-GANDI"))
    with store.reading() as session:
        assert session.scalar(select(Account.handle)) == "ALICE-GANDI"


def test_an_exception_undoes_everything(store: Store) -> None:
    with store.writing() as session:
        session.add(Account(handle="ALICE-GANDI"))
    with pytest.raises(IntegrityError), store.writing() as session:
        session.add_all([Account(handle="BOB-GANDI"), Account(handle="ALICE-GANDI")])
    with store.reading() as session:
        assert session.scalars(select(Account.handle)).all() == ["ALICE-GANDI"]


def test_a_wrong_question_is_not_asked_again(store: Store) -> None:
    def ask() -> None:
        with store.reading() as session:
            session.execute(text("SELECT handle FROM nowhere"))

    with pytest.raises(OperationalError, match="no such table: nowhere"):
        asyncio.run(keep(ask))


def test_a_reader_sees_one_state(store: Store) -> None:
    with store.reading() as reader:
        assert reader.scalar(select(func.count()).select_from(Account)) == 0
        with store.writing() as session:
            session.add(Account(handle="ALICE-GANDI"))
        assert reader.scalar(select(func.count()).select_from(Account)) == 0


def test_what_a_writer_checked_stays_true(store: Store) -> None:
    """Threads that read a count and write the next one never write the same."""

    def count_up() -> None:
        for _ in range(10):
            with store.writing() as session:
                number = session.scalar(select(func.count()).select_from(Account)) or 0
                session.add(Account(handle=f"{number}"))

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.reading() as session:
        handles = session.scalars(select(Account.handle)).all()
    assert sorted(handles, key=int) == [str(number) for number in range(40)]


def test_a_record_outlives_its_transaction(store: Store) -> None:
    account = Account(handle="ALICE-GANDI")
    with store.writing() as session:
        session.add(account)
    assert (account.id, account.handle) == (1, "ALICE-GANDI")
