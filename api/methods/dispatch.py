"""From a method name and its arguments to an answer: the key, the parameters, the dry run."""

import hmac
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, or_, select
from sqlalchemy.exc import OperationalError

from api.methods.audit import Entry
from api.methods.call import Call, Services
from api.methods.faults import (
    Cause,
    Fault,
    Object,
    read_only,
    records_out_of_reach,
    refuse,
    too_many,
    unknown_method,
)
from api.methods.pace import Pace
from api.methods.table import Method, lookup
from api.observe import context
from api.operations.jobs import DryRunPassed
from api.store.database import is_out_of_reach
from api.store.keys import digest
from api.store.models import Account, ApiKey, now

log = logging.getLogger(__name__)

_KEY = re.compile(r"[a-z0-9]{24}\Z")
_DRY_RUN = "--dry-run"
_ACCOUNT = Account.__table__
_SPEAKS_FOR = (
    select(_ACCOUNT, ApiKey.digest, ApiKey.id.label("key_id"), ApiKey.read_only, ApiKey.label)
    .join_from(_ACCOUNT, ApiKey)
    .where(
        ApiKey.digest == bindparam("wanted"),
        ApiKey.date_revoked.is_(None),
        or_(ApiKey.date_expires.is_(None), ApiKey.date_expires > bindparam("at")),
    )
)


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who calls: the account, and the key that speaks for it; without a key, nobody."""

    account: Account
    key_id: int | None = None
    read_only: bool = False
    label: str = ""


class Dispatcher:
    """Calls methods; raises `Fault` for everything that a caller did wrong."""

    def __init__(self, services: Services) -> None:
        self._services = services
        limits = services.limits
        self._pace = Pace(limits.requests_per_second, limits.requests_burst)

    def __call__(self, name: str, arguments: Sequence[Any], remote_address: str, root: str = "") -> Any:
        """The answer of the method served as `name`; `root` is the URL that the caller reaches ``/`` by."""
        method = lookup(name)
        if method is None:
            raise unknown_method(name)
        with self._services.audit.call(method, arguments, remote_address) as entry:
            try:
                answer = self._answer(method, list(arguments), remote_address, root, entry)
            except OperationalError as error:
                if not is_out_of_reach(error):
                    raise
                log.warning("the records cannot be used for %s: %s", name, error.orig)
                raise records_out_of_reach() from None
            entry.answered(answer)
        return answer

    def _answer(self, method: Method, given: list[Any], remote_address: str, root: str, entry: Entry) -> Any:
        entry.who = speaker = self._authenticate(method, given)
        self._check_right(method, speaker)
        entry.dry_run = dry_run = _take_dry_run(given)
        call = Call(speaker.account, remote_address, self._services, dry_run, root, entry.accepted)
        if dry_run:
            return [
                {"reason": fault.text, "attr": list(fault.fields), "error": fault.code}
                for fault in _objections(method, call, given)
            ]
        return method.function(call, *method.bind(given))

    def _check_right(self, method: Method, speaker: Speaker) -> None:
        if speaker.key_id is None:
            return
        seconds = self._pace.wait(speaker.key_id)
        if seconds > 0:
            raise too_many(seconds)
        # a dry run too: it is the call that is not allowed
        if speaker.read_only and method.changes:
            raise read_only(method.name)

    def _authenticate(self, method: Method, given: list[Any]) -> Speaker:
        if not method.takes_key:
            return Speaker(Account())
        if not given:
            raise refuse(
                Object.METHOD, Cause.BADPARAMETER, f"{method.name} takes the API key as its first argument"
            )
        key = given.pop(0)
        if not method.checks_key:
            return Speaker(Account())
        return authenticate(self._services, key)


def authenticate(services: Services, key: Any) -> Speaker:
    """Who speaks with `key`; raises a `Fault` that tells no unknown key from a revoked or an expired one."""
    if not isinstance(key, str):
        raise refuse(Object.STRING, Cause.TYPE, "the API key is a string of 24 characters")
    if not _KEY.match(key):
        raise refuse(
            Object.STRING, Cause.BADPARAMETER, "the API key does not match '^[a-z0-9]{24}$'", "apikey"
        )
    # the digest is looked up, not the key: how long that takes tells nothing about any key
    wanted = digest(key)
    found = services.store.row(_SPEAKS_FOR, {"wanted": wanted, "at": now()})
    if found is None or not hmac.compare_digest(found.digest, wanted):
        raise refuse(Object.ACCOUNT, Cause.NORIGHT, "Invalid API key")
    account = Account(**{column.key: found._mapping[column.key] for column in _ACCOUNT.columns})
    context.note(account=account.handle, key=found.key_id)
    return Speaker(account, found.key_id, found.read_only, found.label)


def _objections(method: Method, call: Call, given: list[Any]) -> list[Fault]:
    """What a dry run finds wrong: every wrong parameter, else the first thing that the records forbid."""
    bound, faults = method.check(given)
    if faults:
        return faults
    try:
        method.function(call, *bound)
    except DryRunPassed:
        return []
    except Fault as fault:
        return [fault]
    return []


def _take_dry_run(arguments: list[Any]) -> bool:
    wanted = False
    for position, argument in enumerate(arguments):
        if isinstance(argument, dict) and _DRY_RUN in argument:
            wanted = wanted or bool(argument[_DRY_RUN])
            arguments[position] = {key: value for key, value in argument.items() if key != _DRY_RUN}
    return wanted
