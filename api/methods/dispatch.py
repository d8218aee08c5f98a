"""From a method name and its arguments to an answer: the key, the parameters, the dry run."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from api.methods.call import Call, Services
from api.methods.faults import Cause, Fault, Object, refuse, unknown_method
from api.methods.table import Method, lookup
from api.operations.jobs import DryRunPassed
from api.store.models import Account, ApiKey

_KEY = re.compile(r"[a-z0-9]{24}\Z")
_DRY_RUN = "--dry-run"


class Dispatcher:
    """Calls methods; raises `Fault` for everything that a caller did wrong."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def __call__(self, name: str, arguments: Sequence[Any], remote_address: str) -> Any:
        """The answer of the method served as `name`."""
        method = lookup(name)
        if method is None:
            raise unknown_method(name)
        given = list(arguments)
        account = self._authenticate(method, given)
        dry_run = _take_dry_run(given)
        call = Call(account, remote_address, self._services, dry_run)
        if not dry_run:
            return method.function(call, *method.bind(given))
        try:
            method.function(call, *method.bind(given))
        except DryRunPassed:
            return []
        except Fault as fault:
            return [{"reason": fault.text, "attr": list(fault.fields), "error": fault.code}]
        return []

    def _authenticate(self, method: Method, given: list[Any]) -> Account:
        if not method.takes_key:
            return Account()
        if not given:
            raise refuse(
                Object.METHOD, Cause.BADPARAMETER, f"{method.name} takes the API key as its first argument"
            )
        key = given.pop(0)
        if not method.checks_key:
            return Account()
        return authenticate(self._services, key)


def digest(key: str) -> str:
    """What is kept of an API key."""
    return hashlib.sha256(key.encode()).hexdigest()


def authenticate(services: Services, key: Any) -> Account:
    """The account that `key` speaks for; raises a `Fault` that does not tell an unknown key from a revoked one."""
    if not isinstance(key, str):
        raise refuse(Object.STRING, Cause.TYPE, "the API key is a string of 24 characters")
    if not _KEY.match(key):
        raise refuse(
            Object.STRING, Cause.BADPARAMETER, "the API key does not match '^[a-z0-9]{24}$'", "apikey"
        )
    wanted = digest(key)
    with services.store.reading() as session:
        found = session.scalar(select(ApiKey).where(ApiKey.digest == wanted))
        # the comparison in constant time is the one that counts: the index above only finds the candidate
        known = found is not None and hmac.compare_digest(found.digest, wanted) and found.date_revoked is None
        if found is None or not known:
            raise refuse(Object.ACCOUNT, Cause.NORIGHT, "Invalid API key")
        return found.account


def _take_dry_run(arguments: list[Any]) -> bool:
    wanted = False
    for position, argument in enumerate(arguments):
        if isinstance(argument, dict) and _DRY_RUN in argument:
            wanted = wanted or bool(argument[_DRY_RUN])
            arguments[position] = {key: value for key, value in argument.items() if key != _DRY_RUN}
    return wanted
