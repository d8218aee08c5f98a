"""``hypervisor apikey``: who may use the API."""

from datetime import datetime

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from api.cli.expiry import expiry
from api.cli.settings import load
from api.service import make_folders, open_store
from api.store.database import Store
from api.store.keys import digest, new_key
from api.store.models import Account, ApiKey, now


def _store() -> Store:
    settings = load()
    make_folders(settings)
    return open_store(settings)


@click.group()
def apikey() -> None:
    """Make, list and revoke API keys. Only a digest of each is kept: a key is shown once."""


@apikey.command()
@click.option(
    "--account", "handle", help="The account's handle; made when there is none. Default: the first."
)
@click.option("--label", default="", help="A note for the list.")
@click.option(
    "--expires",
    metavar="SPAN|DATE",
    callback=expiry,
    help="After 30d, 12h, or at a UTC date.",
)
@click.option("--read-only", is_flag=True, help="It may call what changes nothing, and open no console.")
def create(handle: str | None, label: str, expires: datetime | None, read_only: bool) -> None:
    """Make a key and print it."""
    key = new_key()
    with _store().writing() as session:
        query = select(Account).order_by(Account.id).limit(1)
        account = session.scalar(query if handle is None else query.where(Account.handle == handle))
        if account is None:
            account = Account(handle=handle or load().account)
            session.add(account)
            session.flush()
        session.add(
            ApiKey(
                account_id=account.id,
                digest=digest(key),
                label=label,
                date_expires=expires,
                read_only=read_only,
            )
        )
    click.echo(key)


@apikey.command("list")
def list_() -> None:
    """List the keys: their numbers, accounts and dates, and what they may do."""
    table = Table("number", "account", "label", "may", "created", "expires", "state")
    at = now()
    with _store().reading() as session:
        for key in session.scalars(select(ApiKey).order_by(ApiKey.id)):
            may = "read" if key.read_only else "everything"
            expires = "never" if key.date_expires is None else str(key.date_expires)
            row = (key.account.handle, key.label, may, str(key.date_created), expires, _state(key, at))
            table.add_row(str(key.id), *row)
    Console().print(table)


def _state(key: ApiKey, at: datetime) -> str:
    if key.date_revoked is not None:
        return f"revoked {key.date_revoked}"
    return "expired" if key.date_expires is not None and key.date_expires <= at else "good"


@apikey.command()
@click.argument("number", type=int)
def revoke(number: int) -> None:
    """Revoke the key with this NUMBER of the list: from now on it is an unknown one."""
    with _store().writing() as session:
        key = session.get(ApiKey, number)
        if key is None:
            raise click.ClickException(f"there is no key {number}: see hypervisor apikey list")
        key.date_revoked = key.date_revoked or now()
    click.echo(f"key {number} is revoked")
