"""What a person has to mend before the records can be used."""

import sqlite3

from sqlalchemy.exc import OperationalError


class StoreError(Exception):
    """The records cannot be used as they are; the text says what to do."""


def is_out_of_reach(error: OperationalError) -> bool:
    """Whether the database could not do what it was asked for (a full disk, a lock, a server that is away);
    SQLite says of a wrong question as well that it is an operational error."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code is None or code & 0xFF != sqlite3.SQLITE_ERROR
