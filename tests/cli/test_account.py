"""``hypervisor account`` and ``hypervisor apikey``: what is made, shown and refused, and that it counts."""

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from api.cli import cli
from api.cli.settings import load
from api.service import make_folders, open_store
from api.store.database import Store
from api.store.keys import digest
from api.store.models import Account, ApiKey, now


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The records that the commands work on."""
    monkeypatch.setenv("HYPERVISOR_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HYPERVISOR_LIMITS__ACCOUNT__CORES", "16")
    monkeypatch.setenv("COLUMNS", "160")
    make_folders(load())
    with closing(open_store(load())) as store:
        yield store


def ask(*arguments: str) -> tuple[int, str]:
    """The status of the command and all that it says."""
    result = CliRunner().invoke(cli, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def made(store: Store, *arguments: str) -> ApiKey:
    """The key that the command makes."""
    status, said = ask("apikey", "create", *arguments)
    assert status == 0, said
    with store.reading() as session:
        return session.scalars(select(ApiKey).where(ApiKey.digest == digest(said.strip()))).one()


def test_a_key_without_options_is_good_for_ever(store: Store) -> None:
    key = made(store)
    assert (key.date_expires, key.read_only, key.account.handle) == (None, False, "LOCAL-GANDI")


@pytest.mark.parametrize(
    ("said", "span"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("5m", timedelta(minutes=5)),
        ("2w", timedelta(weeks=2)),
    ],
)
def test_a_key_expires_after_a_span(store: Store, said: str, span: timedelta) -> None:
    before = now()
    expires = made(store, "--expires", said).date_expires
    assert expires is not None
    assert before + span <= expires <= now() + span


@pytest.mark.parametrize("said", ["2099-01-31", "2099-01-31T00:00:00", "2099-01-31 00:00:00"])
def test_a_key_expires_at_a_date(store: Store, said: str) -> None:
    assert made(store, "--expires", said, "--read-only").date_expires == datetime.fromisoformat("2099-01-31")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("0d", "is not like 30d"),
        ("30", "is not like 30d"),
        ("30 days", "is not like 30d"),
        ("999999w", "is not like 30d"),
        ("31.01.2099", "is not like 30d"),
        ("2020-01-01", "is past"),
    ],
)
def test_a_wrong_expiry_makes_no_key(store: Store, said: str, why: str) -> None:
    status, told = ask("apikey", "create", "--expires", said)
    assert status == 2
    assert why in told
    with store.reading() as session:
        assert len(session.scalars(select(ApiKey)).all()) == 1


def test_the_list_tells_what_a_key_may(store: Store) -> None:
    reader = made(store, "--label", "graphs", "--read-only", "--expires", "2099-01-31")
    old = made(store, "--label", "old")
    with store.writing() as session:
        session.get_one(ApiKey, old.id).date_expires = now()
    gone = made(store, "--label", "gone")
    assert ask("apikey", "revoke", str(gone.id)) == (0, f"key {gone.id} is revoked\n")
    _, said = ask("apikey", "list")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines() if "│" in line]
    shown = {row[2]: row[3:] for row in rows}
    assert shown["graphs"] == ["read", str(reader.date_created), "2099-01-31 00:00:00", "good"]
    assert shown["old"][3] == "expired"
    assert shown["gone"][3].startswith("revoked 2")
    assert (shown["first"][0], shown["first"][2]) == ("everything", "never")


def test_an_account_is_made_once(store: Store) -> None:
    assert ask("account", "create", "BOB-GANDI")[0] == 0
    status, said = ask("account", "create", "BOB-GANDI")
    assert (status, said) == (1, "Error: there is an account BOB-GANDI already\n")
    assert made(store, "--account", "BOB-GANDI").account.handle == "BOB-GANDI"
    with store.reading() as session:
        assert len(session.scalars(select(Account)).all()) == 2


@pytest.mark.parametrize("handle", ["", "AB", "bob", "BOB GANDI", "BOB\n", "A" * 65])
def test_a_handle_is_checked(store: Store, handle: str) -> None:
    status, said = ask("account", "create", handle)
    assert status == 1
    assert "3 to 64 capital letters" in said
    with store.reading() as session:
        assert len(session.scalars(select(Account)).all()) == 1


def test_limits_are_kept_and_shown(store: Store) -> None:
    assert ask("account", "limits", "LOCAL-GANDI") == (
        0,
        (
            "vms: 0 in use, no limit (default)\n"
            "cores: 0 in use, at most 16 (default)\n"
            "memory: 0 in use, no limit (default)\n"
            "disk: 0 in use, no limit (default)\n"
            "addresses: 0 in use, no limit (default)\n"
            "vlans: 0 in use, no limit (default)\n"
        ),
    )
    ask("account", "limits", "LOCAL-GANDI", "--vms", "5", "--cores", "none")
    _, said = ask("account", "limits", "LOCAL-GANDI", "--memory", "4096")
    assert said.splitlines()[:3] == [
        "vms: 0 in use, at most 5",
        "cores: 0 in use, no limit",
        "memory: 0 in use, at most 4096 MiB",
    ]
    with store.reading() as session:
        assert session.get_one(Account, 1).limits == {"vms": 5, "cores": None, "memory": 4096}
    _, said = ask("account", "list")
    assert "0 of 5" in said
    assert "0 of 4096" in said
    ask("account", "limits", "LOCAL-GANDI", "--vms", "default", "--cores", "default", "--memory", "default")
    with store.reading() as session:
        assert session.get_one(Account, 1).limits is None


@pytest.mark.parametrize("number", ["-1", "1.5", "many", "2147483648", ""])
def test_a_wrong_limit_changes_nothing(store: Store, number: str) -> None:
    status, said = ask("account", "limits", "LOCAL-GANDI", "--vms", number)
    assert status == 2
    assert "none or default" in said
    with store.reading() as session:
        assert session.get_one(Account, 1).limits is None


def test_an_unknown_account(store: Store) -> None:  # noqa: ARG001 - the state folder
    status, said = ask("account", "limits", "NOBODY", "--vms", "1")
    assert (status, said) == (1, "Error: there is no account NOBODY: see hypervisor account list\n")
