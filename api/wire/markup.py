"""The look at a request before libxml2 sees it: its encoding, and that it has no markup but XML-RPC's own.

libxml2 keeps every name it meets (elements, attributes, prefixes, targets of processing instructions) for as
long as the thread lives: measured, 100 requests of 1 MiB with names of their own cost 320 MiB for good. And
no document type declaration may get through. So requests are held against the closed vocabulary of XML-RPC
first: what passes can declare nothing and name nothing.

Only UTF-8, US-ASCII and ISO-8859-1 are taken, by the XML declaration (UTF-8 without one). The charset of the
HTTP header is not looked at: the known clients send none, and a body that contradicts itself is not worth
guessing about.
"""

import re

from api.methods.faults import Cause, Fault, Object, refuse

MAX_BYTES = 1024 * 1024
"""Longest request, in bytes: scripts are the only long thing in one."""

MAX_TAGS = 100_000
"""Most tags in a request, opening and closing ones together; libxml2 takes about 120 bytes for each
element."""

EXTENSIONS = "http://ws.apache.org/xmlrpc/namespaces/extensions"
"""The namespace of `ex:nil`."""

_DECLARATION = re.compile(
    rb"""<\?xml\s+version\s*=\s*(["'])1\.[0-9]\1"""
    rb"""(?:\s+encoding\s*=\s*(["'])(?P<encoding>[A-Za-z][A-Za-z0-9._-]{0,39})\2)?"""
    rb"""(?:\s+standalone\s*=\s*(["'])(?:yes|no)\4)?\s*\?>"""
)
_NAMES = (
    r"methodCall|methodName|params|param|value|int|i4|i8|boolean|string|double|dateTime\.iso8601|base64|nil"
    r"|array|data|struct|member|name"
)
_NAMESPACE = rf"""\s+xmlns(?::ex)?\s*=\s*(?:"{EXTENSIONS}"|'{EXTENSIONS}')"""
_TAG = re.compile(rf"</?(?:ex:)?(?:{_NAMES})(?:{_NAMESPACE})?\s*/?>".encode())
_MARKUP = re.compile(_TAG.pattern + rb"|<!--.*?-->|<!\[CDATA\[.*?\]\]>", re.DOTALL)
_ENCODINGS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin-1": "latin-1",
    "latin1": "latin-1",
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def syntax(reason: str) -> Fault:
    """The fault for text that is not an XML-RPC request: 500020, OBJECT_UNKNOWN (CAUSE_SYNTAX).

    The table of codes has no object for the request itself, and the cause is exactly "syntax".
    """
    return refuse(Object.UNKNOWN, Cause.SYNTAX, reason)


def checked(body: bytes, max_bytes: int = MAX_BYTES) -> bytes:
    """`body` without its XML declaration, in UTF-8, safe to hand to libxml2; raises `Fault`.

    Takes time and memory in proportion to the size of `body`.
    """
    if len(body) > max_bytes:
        raise refuse(Object.UNKNOWN, Cause.SIZE, f"the request is longer than {max_bytes} bytes")
    body = body.removeprefix(_BYTE_ORDER_MARK)
    encoding = "utf-8"
    if declaration := _DECLARATION.match(body):
        encoding = (declaration["encoding"] or b"utf-8").decode("ascii").lower()
        body = body[declaration.end() :]
    if encoding not in _ENCODINGS:
        raise syntax(f"encoding '{encoding}' is not supported, send UTF-8")
    try:
        text = body.decode(_ENCODINGS[encoding])
    except UnicodeDecodeError as error:
        raise syntax(f"the request is not valid {encoding} at byte {error.start}") from None
    if encoding in ("iso-8859-1", "latin-1", "latin1"):
        body = text.encode()
    _check_markup(body)
    return body


def _check_markup(body: bytes) -> None:
    # the usual case at once: as many tags as there are "<", each tag having one
    count = body.count(b"<")
    if count <= MAX_TAGS and _TAG.subn(b"", body)[1] == count:
        return
    # one by one, ending at the first that is not known: else unclosed comments would cost quadratic time
    match, find = _MARKUP.match, body.find
    tags = 0
    at = find(b"<")
    while at >= 0:
        token = match(body, at)
        if token is None:
            raise _unknown_markup(body, at)
        tags += 1
        if tags > MAX_TAGS:
            raise refuse(Object.UNKNOWN, Cause.TOOMANY, f"the request has more than {MAX_TAGS} tags")
        at = find(b"<", token.end())


def _unknown_markup(body: bytes, at: int) -> Fault:
    if body.startswith(b"<!DOCTYPE", at):
        return syntax("document type declarations are not accepted")
    shown = re.match(rb"</?[A-Za-z0-9_.:-]{1,30}|<[!?]?", body[at : at + 32])
    name = shown.group().decode("ascii") if shown else "<"
    return syntax(f"'{name}' at byte {at} is not markup of an XML-RPC request")
