"""API keys: made at random, kept as digests, and the account and key of a first start."""

import hashlib
import secrets
import string

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.settings import Settings
from api.store.models import Account, ApiKey

_LENGTH = 24
_ALPHABET = string.ascii_lowercase + string.digits
_FIRST = "first"


def new_key() -> str:
    """A random API key, ``[a-z0-9]{24}``."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def digest(key: str) -> str:
    """What is kept of an API key: its SHA-256, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def first_account(session: Session, settings: Settings) -> str | None:
    """Make sure that there is an account, and that the key of the settings works.

    Returns the API key when this entered one, None when the keys that there are stay as they are. The key is
    returned this once; only its digest is kept.
    """
    account = session.scalar(
        select(Account).order_by(Account.handle != settings.account, Account.id).limit(1)
    )
    if account is not None and settings.api_key is None:
        return None
    if account is None:
        account = Account(handle=settings.account)
        session.add(account)
        session.flush()
    key = settings.api_key or new_key()
    known = session.scalar(select(ApiKey).where(ApiKey.digest == digest(key)))
    if known is None:
        session.add(ApiKey(account_id=account.id, digest=digest(key), label=_FIRST))
        session.flush()
        return key
    # who names a revoked key in the settings wants it back
    known.date_revoked = known.date_expires = None
    known.read_only = False
    return None
