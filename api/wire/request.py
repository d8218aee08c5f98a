"""Reading XML-RPC requests (the specification of xmlrpc.com, and `nil` of its extensions).

Every refusal is a `Fault` whose text names where: ``argument 2, hostname`` is the member ``hostname`` of the
second argument. Its `fields` are the same path without the argument.
"""

from lxml import etree

from api.methods.faults import Cause, Fault, Object, refuse
from api.wire.markup import MAX_BYTES, checked, syntax
from api.wire.scalars import METHOD_NAME, SCALARS
from api.wire.values import Value

MAX_DEPTH = 32
"""Deepest nesting of values: an argument is at depth 1, what it holds at depth 2."""

_Path = tuple[str, ...]


def parse_request(body: bytes, *, max_bytes: int = MAX_BYTES) -> tuple[str, list[Value]]:
    """The method and the arguments of a request of at most `max_bytes` bytes.

    Raises `Fault` for everything that is not one: 5000xx for its form, 5010xx to 5018xx for a single value.
    """
    try:
        call = etree.fromstring(checked(body, max_bytes), _parser())
    except etree.XMLSyntaxError as error:
        raise syntax(f"not well-formed XML: {error.msg}") from None
    if call.tag != "methodCall":
        raise syntax("the root element is not <methodCall>")
    parts = _children(call, ())
    tags = [part.tag for part in parts]
    if tags not in (["methodName"], ["methodName", "params"]):
        raise syntax("<methodCall> holds <methodName>, then <params>")
    method = parts[0].text or ""
    if len(parts[0]) or not METHOD_NAME.match(method):
        raise refuse(Object.METHOD, Cause.SYNTAX, "a method name is 1 to 128 of A-Z a-z 0-9 _ . : /")
    params = _children(parts[1], ()) if len(parts) == 2 else []
    return method, [_argument(param, (str(place),)) for place, param in enumerate(params, 1)]


def _parser() -> etree.XMLParser:
    # a new one costs 2 microseconds; threads that share one wait for each other
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )


def _argument(param: etree._Element, path: _Path) -> Value:
    values = _children(param, path)
    if param.tag != "param" or len(values) != 1:
        raise _malformed("<param> with one <value> expected", path)
    return _value(values[0], 1, path)


def _value(node: etree._Element, depth: int, path: _Path) -> Value:
    if node.tag != "value":
        raise _malformed("<value> expected", path)
    if depth > MAX_DEPTH:
        raise _refuse(Object.UNKNOWN, Cause.TOOMANY, f"values are nested deeper than {MAX_DEPTH}", path)
    if len(node) == 0:
        return node.text or ""
    typed = node[0]
    if len(node) != 1 or not _blank(node.text) or not _blank(typed.tail):
        raise _malformed("<value> holds one element or text", path)
    if typed.tag == "struct":
        return _struct(typed, depth, path)
    if typed.tag == "array":
        return _array(typed, depth, path)
    return _scalar(typed, path)


def _struct(node: etree._Element, depth: int, path: _Path) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for member in _children(node, path):
        parts = _children(member, path)
        tags = [part.tag for part in parts]
        if member.tag != "member" or tags != ["name", "value"] or len(parts[0]):
            raise _refuse(Object.STRUCT, Cause.SYNTAX, "<member> holds <name>, then <value>", path)
        name = parts[0].text or ""
        if name in found:
            raise _refuse(Object.STRUCT, Cause.BADPARAMETER, "this member is given twice", (*path, name))
        found[name] = _value(parts[1], depth + 1, (*path, name))
    return found


def _array(node: etree._Element, depth: int, path: _Path) -> list[Value]:
    data = _children(node, path)
    if len(data) != 1 or data[0].tag != "data":
        raise _refuse(Object.LIST, Cause.SYNTAX, "<array> holds one <data>", path)
    items = _children(data[0], path)
    return [_value(item, depth + 1, (*path, str(place))) for place, item in enumerate(items)]


def _scalar(node: etree._Element, path: _Path) -> Value:
    tag = str(node.tag)
    kind = SCALARS.get(tag)
    if kind is None:
        raise _refuse(Object.UNKNOWN, Cause.TYPE, f"<{tag}> is not a type of this API", path)
    if len(node):
        raise _malformed(f"<{tag}> holds text only", path)
    try:
        return kind.read(node.text or "")
    except TypeError as error:
        raise _refuse(kind.subject, Cause.TYPE, str(error), path) from None
    except OverflowError as error:
        raise _refuse(kind.subject, Cause.BADPARAMETER, str(error), path) from None
    except ValueError as error:
        raise _refuse(kind.subject, Cause.SYNTAX, str(error), path) from None


def _children(node: etree._Element, path: _Path) -> list[etree._Element]:
    """The elements in `node`; raises a `Fault` when there is text between them."""
    children = list(node)
    blank = _blank(node.text)
    for child in children:
        blank = blank and _blank(child.tail)
    if not blank:
        raise _malformed(f"text in <{node.tag!s}> where there are elements", path)
    return children


def _blank(text: str | None) -> bool:
    return text is None or not text.strip(" \t\r\n")


def _malformed(reason: str, path: _Path) -> Fault:
    return _refuse(Object.UNKNOWN, Cause.SYNTAX, reason, path)


def _refuse(subject: Object, cause: Cause, reason: str, path: _Path) -> Fault:
    if not path:
        return refuse(subject, cause, reason)
    where = ", ".join(part if len(part) <= 64 else f"{part[:64]}..." for part in path)
    return refuse(subject, cause, f"argument {where}: {reason}", *path[1:])
