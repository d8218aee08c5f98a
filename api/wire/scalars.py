"""The scalar types of XML-RPC: from the text of an element to a value.

Each reader raises `TypeError` for a type that the API does not have, `ValueError` for text that is not of the
type, `OverflowError` for a value out of its range.
"""

import binascii
import math
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from api.methods.faults import Object
from api.wire.markup import EXTENSIONS
from api.wire.values import Value

METHOD_NAME = re.compile(r"[A-Za-z0-9_.:/]{1,128}\Z")

_INTEGER = re.compile(r"[+-]?[0-9]{1,32}\Z")
_DOUBLE = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?\Z")
_DATE = re.compile(
    r"(\d{4})(-?)(\d\d)\2(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6})\d{0,12})?"
    r"(?:Z|([+-])([01]\d|2[0-3]):?([0-5]\d))?\Z",
    re.ASCII,
)


class Scalar(NamedTuple):
    """How one type is read, and what a fault about it is about."""

    subject: Object
    read: Callable[[str], Value]


def integer(text: str) -> int:
    """An integer of 32 bits: digits with an optional sign, nothing around them."""
    if not _INTEGER.match(text):
        raise ValueError("not an integer")
    value = int(text)
    if not -(2**31) <= value < 2**31:
        raise OverflowError("integers have 32 bits: -2147483648 to 2147483647")
    return value


def long_integer(text: str) -> int:  # noqa: ARG001 - refused whatever it holds
    """`i8`, which no client of this API ever sent: ids stay below 2^31."""
    raise TypeError("integers have 32 bits, send <int>")


def boolean(text: str) -> bool:
    """``0`` or ``1``."""
    if text not in ("0", "1"):
        raise ValueError("a boolean is 0 or 1")
    return text == "1"


def double(text: str) -> float:
    """A finite number. Exponents, which the specification lacks, are read: Python's marshaller sends them."""
    if not _DOUBLE.match(text):
        raise ValueError("not a decimal number")
    value = float(text)
    if not math.isfinite(value):
        raise OverflowError("not a finite number")
    return value


def string(text: str) -> str:
    """The text as it is, white space included."""
    return text


def date(text: str) -> datetime:
    """``YYYYMMDDTHH:MM:SS`` as a naive datetime in UTC.

    Read as well, because clients in other languages write ISO 8601 so: dashes in the date, a fraction of a
    second (kept to the microsecond), a zone (``Z`` or an offset, converted to UTC). Nothing else.
    """
    found = _DATE.match(text)
    if found is None:
        raise ValueError("a date is YYYYMMDDTHH:MM:SS, in UTC")
    year, _, month, day, hour, minute, second, fraction, sign, hours, minutes = found.groups()
    microsecond = int((fraction or "").ljust(6, "0"))
    try:
        value = datetime(  # noqa: DTZ001 - the API's dates have no zone and mean UTC
            int(year), int(month), int(day), int(hour), int(minute), int(second), microsecond
        )
        if sign:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            value = value - offset if sign == "+" else value + offset
    except (ValueError, OverflowError):
        raise ValueError("there is no such date") from None
    return value


def base64(text: str) -> bytes:
    """Standard base64 with its padding; white space is skipped, as encoders wrap lines."""
    try:
        return b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None


def nil(text: str) -> None:
    """Nothing, from an empty element."""
    if text:
        raise ValueError("<nil/> is empty")


_NIL = Scalar(Object.UNKNOWN, nil)
_LONG = Scalar(Object.INTEGER, long_integer)

SCALARS: Mapping[str, Scalar] = {
    "string": Scalar(Object.STRING, string),
    "int": Scalar(Object.INTEGER, integer),
    "i4": Scalar(Object.INTEGER, integer),
    "i8": _LONG,
    f"{{{EXTENSIONS}}}i8": _LONG,
    "boolean": Scalar(Object.BOOLEAN, boolean),
    "double": Scalar(Object.FLOAT, double),
    "dateTime.iso8601": Scalar(Object.DATE, date),
    "base64": Scalar(Object.STRING, base64),
    "nil": _NIL,
    f"{{{EXTENSIONS}}}nil": _NIL,
}
"""The scalar types by element name."""
