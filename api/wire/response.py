"""Writing XML-RPC answers, with the standard library's marshaller.

It differs from the standard library where that would not survive the way to the client:

- Characters that XML 1.0 has no way to carry (control characters, lone surrogates, U+FFFE, U+FFFF) become
  U+FFFD. A fault instead would make a whole list unreadable because of one console line with an escape
  sequence in it.
- A carriage return is written as ``&#13;``: written raw, an XML parser must read it as a line feed.
- A double is written without exponent, as the XML-RPC specification demands.
- Only the types of `Value` are written: the standard library would write any object's attributes as a struct.
"""

import math
import re
import xmlrpc.client
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

from api.methods.faults import Fault
from api.wire.values import Value

_Write = Callable[[str], object]

_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HEAD = "<?xml version='1.0' encoding='UTF-8'?>\n<methodResponse>\n"
_TAIL = "</methodResponse>\n"


def _double(marshaller: xmlrpc.client.Marshaller, value: Any, write: _Write) -> None:  # noqa: ARG001
    if not math.isfinite(value):
        raise ValueError("XML-RPC has no infinity and no NaN")
    text = repr(value)
    if "e" in text:
        text = format(Decimal(text), "f")
    write(f"<value><double>{text}</double></value>\n")


def _date(marshaller: xmlrpc.client.Marshaller, value: Any, write: _Write) -> None:  # noqa: ARG001
    if value.tzinfo is not None:
        value = value.astimezone(UTC)
    # strftime does not pad years below 1000 on every C library
    write(f"<value><dateTime.iso8601>{value.year:04}{value:%m%dT%H:%M:%S}</dateTime.iso8601></value>\n")


def _other(marshaller: xmlrpc.client.Marshaller, value: Any, write: _Write) -> None:  # noqa: ARG001
    raise TypeError(f"{type(value).__name__} is not a value of XML-RPC")


class _Marshaller(xmlrpc.client.Marshaller):
    dispatch = {  # noqa: RUF012 - the standard library's name and shape
        **xmlrpc.client.Marshaller.dispatch,
        float: _double,
        datetime: _date,
        xmlrpc.client.DateTime: _other,
        xmlrpc.client.Binary: _other,
        "_arbitrary_instance": _other,
    }


def render_response(value: Value) -> bytes:
    """The answer that carries `value`: a complete document in UTF-8.

    Raises `OverflowError` for an integer beyond 32 bits, `ValueError` for a double that is not finite,
    `TypeError` for what is not a `Value` (a list within itself included). All three are defects of the
    server.
    """
    return _document(_Marshaller(allow_none=True).dumps(cast(Any, (value,))))


def render_fault(fault: Fault) -> bytes:
    """The answer that refuses: a struct of `faultCode` and `faultString`."""
    return _document(_Marshaller().dumps(xmlrpc.client.Fault(fault.code, fault.text)))


def _document(content: str) -> bytes:
    # the markup holds neither of the two kinds of character, so the whole text can be treated at once
    if _UNWRITABLE.search(content):
        content = _UNWRITABLE.sub("\ufffd", content)
    return f"{_HEAD}{content.replace(chr(13), '&#13;')}{_TAIL}".encode()
