"""The schema's revisions make what the models say, keep what there is, and refuse what they do not know."""

import re
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, inspect, text
from sqlalchemy.exc import IntegrityError

from api.store import revision, schema
from api.store.database import Store
from api.store.models import Account, ApiKey, Datacenter, Record, Vm, VmTrigger

REVISION = f"""
import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "{revision.HEAD}"


def upgrade() -> None:
    with op.batch_alter_table("account") as table:
        table.add_column(sa.Column("nickname", sa.String(64)))
        table.alter_column("handle", type_=sa.String(80))
        table.drop_constraint("uq_account_handle", type_="unique")
    {{broken}}
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty SQLite file."""
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    yield store
    store.close()


@pytest.fixture
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the revisions, to which a test may add."""
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    for file in schema._MIGRATIONS.glob("**/*.py"):
        target = folder / file.relative_to(schema._MIGRATIONS)
        target.write_text(file.read_text())
    monkeypatch.setattr(schema, "_MIGRATIONS", folder)
    return folder


def test_models_and_revisions_agree(store: Store) -> None:
    assert schema.upgrade(store) == []
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Record.metadata) == []


def test_the_newest_revision_is_known_without_alembic(store: Store) -> None:
    assert revision.current(store) is None
    schema.upgrade(store)
    assert revision.current(store) == revision.HEAD


def test_revisions_make_what_the_models_would(store: Store, tmp_path: Path) -> None:
    schema.upgrade(store)
    other = Store(f"sqlite:///{tmp_path / 'other.db'}")
    Record.metadata.create_all(other.engine)
    assert definitions(store) == definitions(other)
    other.close()


def definitions(store: Store) -> dict[str, str]:
    """What SQLite keeps as the definition of each table and index, AUTOINCREMENT included."""
    query = text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alembic%'")
    with store.engine.connect() as connection:
        return {name: " ".join(sorted(re.findall(r"\w+", sql))) for name, sql in connection.execute(query)}


def test_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    schema.upgrade(store)
    assert schema.upgrade(store) == []
    assert revision.current(store) == revision.HEAD
    assert sorted(file.name for file in tmp_path.glob("store.db*") if "-" not in file.name) == ["store.db"]


def test_file_is_its_owners_alone(store: Store, tmp_path: Path) -> None:
    schema.upgrade(store)
    assert stat.S_IMODE((tmp_path / "store.db").stat().st_mode) == 0o600


def test_four_at_once(store: Store) -> None:
    others = [Store(store.url) for _ in range(3)]
    failures: list[BaseException] = []

    def upgrade(one: Store) -> None:
        try:
            schema.upgrade(one)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=upgrade, args=(one,)) for one in (store, *others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in others:
        one.close()
    assert failures == []
    assert revision.current(store) == revision.HEAD


def test_upgrade_keeps_rows_and_a_copy(store: Store, migrations: Path, tmp_path: Path) -> None:
    schema.upgrade(store)
    with store.writing() as session:
        session.add(Account(handle="ALICE-GANDI"))
        session.flush()
        session.add(ApiKey(account_id=1, digest="x"))
    (migrations / "versions" / "next.py").write_text(REVISION.format(broken=""))
    beside = tmp_path / "workflows.db"
    with closing(sqlite3.connect(beside)) as other:
        other.execute("CREATE TABLE step (name TEXT)")
    copy, workflows = schema.upgrade(store, [beside, tmp_path / "none.db"])
    assert re.fullmatch(rf"store\.db\.{revision.HEAD}\.\d{{8}}T\d{{6}}Z", copy.name)
    assert workflows.name == copy.name.replace("store", "workflows")
    assert revision.current(store) == "next"
    with store.reading() as session:
        assert session.get_one(ApiKey, 1).account.handle == "ALICE-GANDI"
    assert "nickname" in {column["name"] for column in inspect(store.engine).get_columns("account")}
    assert {stat.S_IMODE(one.stat().st_mode) for one in (copy, workflows)} == {0o600}
    with closing(sqlite3.connect(workflows)) as before:
        assert before.execute("SELECT name FROM sqlite_master").fetchall() == [("step",)]
    with closing(sqlite3.connect(copy)) as before:
        assert before.execute("SELECT handle FROM account").fetchall() == [("ALICE-GANDI",)]
        assert before.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision.HEAD,)]


def test_triggers_come_to_a_store_of_the_first_version(
    store: Store, migrations: Path, tmp_path: Path
) -> None:
    newer = [
        file.rename(tmp_path / file.name)
        for file in sorted((migrations / "versions").glob("r*.py"))
        if not file.name.startswith("r0001")
    ]
    schema.upgrade(store)
    assert revision.current(store) == "0001"
    assert not inspect(store.engine).has_table("vm_trigger")
    # without the columns that came later
    datacenter = insert(Datacenter).values(
        dc_code="A", iso="FR", name="", country="", pool="a", network="a", ipv4="192.0.2.1/28", ipv6=""
    )
    with store.writing() as session:
        session.add(Account(handle="ALICE-GANDI"))
        session.execute(datacenter)
        session.flush()
        session.add(Vm(account_id=1, datacenter_id=1, uuid="u", hostname="web", cores=1, memory=512,
                       vm_max_memory=512, seed={}, state="halted"))  # fmt: skip
    for file in newer:
        file.rename(migrations / "versions" / file.name)
    assert [copy.name[:13] for copy in schema.upgrade(store)] == ["store.db.0001"]
    assert revision.current(store) == revision.HEAD
    with store.writing() as session:
        assert session.get_one(Vm, 1).triggers == []
        session.add(watch(1))
    with store.reading() as session:
        (trigger,) = session.get_one(Vm, 1).triggers
        assert (trigger.id, trigger.max_value, trigger.date_created is None) == (1, 5, False)
    with pytest.raises(IntegrityError), store.writing() as session:
        session.add(watch(2))


def watch(vm_id: int) -> VmTrigger:
    """A trigger of the VM."""
    return VmTrigger(
        vm_id=vm_id, datasource="vif.bytes.in", device_type="iface", device_number=0, max_value=5,
        duration=60, recovery_duration=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ("raise RuntimeError('half way')", RuntimeError),
        ('op.execute("DELETE FROM account")', schema.SchemaError),
    ],
)
def test_a_failed_upgrade_changes_nothing(
    store: Store, migrations: Path, broken: str, error: type[Exception]
) -> None:
    schema.upgrade(store)
    with store.writing() as session:
        session.add(Account(handle="ALICE-GANDI"))
        session.flush()
        session.add(ApiKey(account_id=1, digest="x"))
    before = definitions(store)
    (migrations / "versions" / "next.py").write_text(REVISION.format(broken=broken))
    with pytest.raises(error):
        schema.upgrade(store)
    assert definitions(store) == before
    assert revision.current(store) == revision.HEAD
    with store.reading() as session:
        assert session.get_one(ApiKey, 1).account.handle == "ALICE-GANDI"


def test_references_are_kept_after_an_upgrade(store: Store) -> None:
    schema.upgrade(store)
    with pytest.raises(IntegrityError), store.writing() as session:
        session.add(ApiKey(account_id=7, digest="x"))


def test_a_newer_database_is_refused(store: Store) -> None:
    schema.upgrade(store)
    with store.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(
        schema.SchemaError,
        match=rf"revision '9999', .* none after '{revision.HEAD}': a newer version wrote it\. Start that "
        r"version, or put back .*\(there is none beside it\)",
    ):
        schema.upgrade(store)
    assert revision.current(store) == "9999"


def test_the_last_copies_are_kept_and_the_newest_is_named(
    store: Store, migrations: Path, tmp_path: Path
) -> None:
    schema.upgrade(store)
    old = [tmp_path / f"store.db.{number}.2025010{day}T000000Z" for number, day in ((9, 1), (1, 2), (1, 3))]
    foreign = tmp_path / "store.db.mine"
    for file in (*old, foreign):
        file.touch()
    (migrations / "versions" / "next.py").write_text(REVISION.format(broken=""))
    (copy,) = schema.upgrade(store)
    assert [file.exists() for file in (*old, foreign, copy)] == [False, True, True, True, True]
    (migrations / "versions" / "next.py").unlink()
    with pytest.raises(schema.SchemaError, match=re.escape(f"before its upgrade ({copy})")):
        schema.upgrade(store)
    # and with it back in place, the older version goes on
    store.engine.dispose()
    for leftover in tmp_path.glob("store.db-*"):
        leftover.unlink()
    copy.replace(tmp_path / "store.db")
    assert schema.upgrade(store) == []


def test_another_programs_database_is_refused(store: Store) -> None:
    with store.writing() as session:
        session.execute(text("CREATE TABLE recipe (id INTEGER)"))
    with pytest.raises(schema.SchemaError, match="name an empty database in the setting `database`"):
        schema.upgrade(store)
    assert inspect(store.engine).get_table_names() == ["recipe"]


def test_ids_are_never_given_again(store: Store) -> None:
    schema.upgrade(store)
    for expected in (1, 2):
        with store.writing() as session:
            account = Account(handle="ALICE-GANDI")
            session.add(account)
            session.flush()
            assert account.id == expected
            session.delete(account)


def test_every_table_counts_its_ids_up(store: Store) -> None:
    schema.upgrade(store)
    without = {name for name, sql in definitions(store).items() if "AUTOINCREMENT" not in sql}
    assert without & set(Record.metadata.tables) == {"claim"}
    assert Vm.__tablename__ not in without
