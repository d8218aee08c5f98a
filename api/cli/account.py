"""``hypervisor account``: who has objects, and how many."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.cli.settings import load
from api.operations import quota
from api.service import make_folders, open_store
from api.settings import AccountLimits
from api.store.database import Store
from api.store.models import Account, ApiKey

_HANDLE = re.compile(r"[A-Z0-9-]{3,64}\Z")
_MOST = 2**31 - 1
_F = TypeVar("_F", bound=Callable[..., Any])


def _store() -> Store:
    settings = load()
    make_folders(settings)
    return open_store(settings)


def _limit(_context: click.Context, _option: click.Parameter, value: str | None) -> int | str | None:
    if value is None or value in ("none", "default"):
        return value
    if not (value.isascii() and value.isdigit() and int(value) <= _MOST):
        raise click.BadParameter(f"{value!r} is not a number from 0 to {_MOST}, none or default")
    return int(value)


def _option(kind: str, text: str) -> Callable[[_F], _F]:
    return click.option(f"--{kind}", metavar="NUMBER|none|default", callback=_limit, help=text)


@click.group()
def account() -> None:
    """Make and list accounts, and limit what they may have."""


@account.command()
@click.argument("handle")
def create(handle: str) -> None:
    """Make the account HANDLE: 3 to 64 capitals, digits and hyphens. It has no key yet."""
    if not _HANDLE.match(handle):
        raise click.ClickException("a handle is made of 3 to 64 capital letters, digits and hyphens")
    with _store().writing() as session:
        if session.scalar(select(Account.id).where(Account.handle == handle)) is not None:
            raise click.ClickException(f"there is an account {handle} already")
        session.add(Account(handle=handle))
    click.echo(f"account {handle} is made: hypervisor apikey create --account {handle}")


@account.command("list")
def list_() -> None:
    """List the accounts: their keys that are not revoked, and what they use of what they may have."""
    defaults = load().limits.account
    kinds = list(AccountLimits.model_fields)
    table = Table("number", "account", "keys", *kinds)
    keys = select(ApiKey.account_id, func.count()).where(ApiKey.date_revoked.is_(None))
    with _store().reading() as session:
        counted = {row[0]: row[1] for row in session.execute(keys.group_by(ApiKey.account_id))}
        for one in session.scalars(select(Account).order_by(Account.id)):
            used, limits = quota.used(session, one.id), quota.limits_of(one, defaults)
            shown = [_of(used[kind], limits[kind]) for kind in kinds]
            table.add_row(str(one.id), one.handle, str(counted.get(one.id, 0)), *shown)
    Console().print(table)


@account.command()
@click.argument("handle")
@_option("vms", "Virtual machines.")
@_option("cores", "Cores of all its virtual machines.")
@_option("memory", "MiB, the sum of their vm_max_memory.")
@_option("disk", "MiB of disks and snapshots.")
@_option("addresses", "IPv4 and IPv6 addresses.")
@_option("vlans", "Private networks.")
def limits(handle: str, **given: int | str | None) -> None:
    """Show what the account HANDLE may have, or limit it from now on.

    What it has already stays. A limit is a NUMBER, none, or default for what the settings say.
    """
    defaults = load().limits.account
    with _store().writing() as session:
        found = _found(session, handle)
        own = dict(found.limits or {})
        for kind, limit in given.items():
            if limit == "default":
                own.pop(kind, None)
            elif limit is not None:
                own[kind] = None if limit == "none" else limit
        found.limits = own or None
        used, most = quota.used(session, found.id), quota.limits_of(found, defaults)
    for kind, limit in most.items():
        origin = "" if kind in own else " (default)"
        said = "no limit" if limit is None else f"at most {limit}{quota.UNITS.get(kind, '')}"
        click.echo(f"{kind}: {used[kind]} in use, {said}{origin}")


def _found(session: Session, handle: str) -> Account:
    found = session.scalar(select(Account).where(Account.handle == handle))
    if found is None:
        raise click.ClickException(f"there is no account {handle}: see hypervisor account list")
    return found


def _of(used: int, limit: int | None) -> str:
    return str(used) if limit is None else f"{used} of {limit}"
