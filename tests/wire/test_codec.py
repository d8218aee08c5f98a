"""Calls and answers survive the way over the wire, and nothing but a fault comes of anything else."""

import xmlrpc.client
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.methods.faults import Fault
from api.wire.codec import parse_request, render_fault, render_response

XML_TEXT = st.text(
    st.characters(
        codec="utf-8",
        exclude_categories=["Cs", "Cc"],
        include_characters="\t\n",
        exclude_characters="\ufffe\uffff",
    )
)
DATES = st.datetimes().map(lambda date: date.replace(microsecond=0))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | XML_TEXT
    | st.binary()
    | DATES
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(XML_TEXT, inner), max_leaves=20
)
METHODS = st.from_regex(r"[A-Za-z0-9_.:/]{1,40}", fullmatch=True)


def dumps(*arguments: Any, method: str = "a.b") -> bytes:
    """A request as Python's own client writes it."""
    return xmlrpc.client.dumps(arguments, method, allow_none=True).encode()


def loads(answer: bytes) -> Any:
    """The value in an answer, or the `xmlrpc.client.Fault` that it raises."""
    values, _ = xmlrpc.client.loads(answer.decode(), use_builtin_types=True)
    (value,) = values
    return value


def with_value(inner: str) -> bytes:
    """A request with one argument: what is between `<value>` and `</value>`."""
    head = "<methodCall><methodName>m</methodName><params><param><value>"
    return f"{head}{inner}</value></param></params></methodCall>".encode()


def read(inner: str) -> Any:
    """The argument of `with_value`."""
    _, (value,) = parse_request(with_value(inner))
    return value


def refused(body: bytes) -> Fault:
    """The fault that `body` ends in."""
    with pytest.raises(Fault) as caught:
        parse_request(body)
    return caught.value


@given(METHODS, st.lists(VALUES, max_size=5))
def test_reads_what_the_python_client_writes(method: str, arguments: list[Any]) -> None:
    assert parse_request(dumps(*arguments, method=method)) == (method, arguments)


@given(VALUES)
def test_python_client_reads_what_is_written(value: Any) -> None:
    assert loads(render_response(value)) == value


@given(st.integers(100000, 600000), XML_TEXT)
def test_faults_arrive_whole(code: int, text: str) -> None:
    with pytest.raises(xmlrpc.client.Fault) as caught:
        loads(render_fault(Fault(code, text)))
    assert (caught.value.faultCode, caught.value.faultString) == (code, text)


@given(st.text(st.characters(), max_size=50))
def test_every_text_gives_well_formed_xml(text: str) -> None:
    expected = "".join(
        char
        if char in "\t\n\r" or "\x20" <= char <= "\ud7ff" or "\ue000" <= char <= "\ufffd" or char > "\uffff"
        else "\ufffd"
        for char in text
    )
    assert loads(render_response({"console": text})) == {"console": expected}


@pytest.mark.parametrize(
    ("inner", "value"),
    [
        ("<int>-2147483648</int>", -(2**31)),
        ("<i4>+7</i4>", 7),
        ("<boolean>1</boolean>", True),
        ("<boolean>0</boolean>", False),
        ("  bare text ", "  bare text "),
        ("", ""),
        ("<string/>", ""),
        ("<string> kept \n</string>", " kept \n"),
        ("<string><![CDATA[<!DOCTYPE x> & <b>]]></string>", "<!DOCTYPE x> & <b>"),
        ("<string>a<!-- <b> -->c</string>", "ac"),
        ("<string>&lt;&#13;&#x1F600;</string>", "<\r\U0001f600"),
        ("<double>-.5</double>", -0.5),
        ("<double>1e3</double>", 1000.0),
        ("<nil/>", None),
        ('<ex:nil xmlns:ex="http://ws.apache.org/xmlrpc/namespaces/extensions"/>', None),
        ("\n <int>5</int>\n ", 5),
        ("<array><data/></array>", []),
        ("<struct/>", {}),
        ("<base64>aGk=\n</base64>", b"hi"),
        ("<dateTime.iso8601>20110901T12:30:01</dateTime.iso8601>", datetime(2011, 9, 1, 12, 30, 1)),  # noqa: DTZ001
        ("<dateTime.iso8601>2011-09-01T12:30:01Z</dateTime.iso8601>", datetime(2011, 9, 1, 12, 30, 1)),  # noqa: DTZ001
        (
            "<dateTime.iso8601>2011-09-01T12:30:01.25+02:00</dateTime.iso8601>",
            datetime(2011, 9, 1, 10, 30, 1, 250000),  # noqa: DTZ001
        ),
    ],
)
def test_reads_every_form_of_a_value(inner: str, value: Any) -> None:
    found = read(inner)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("inner", "code"),
    [
        ("<int> 5</int>", 501020),
        ("<int>0x10</int>", 501020),
        ("<int>1_000</int>", 501020),
        ("<int>\u0665</int>", 501020),
        ("<int>5\n</int>", 501020),
        ("<int/>", 501020),
        ("<int>2147483648</int>", 501037),
        ("<int>" + "9" * 5000 + "</int>", 501020),
        ("<i8>1</i8>", 501010),
        ("<boolean>true</boolean>", 501120),
        ("<double>nan</double>", 501820),
        ("<double>inf</double>", 501820),
        ("<double>1e999</double>", 501837),
        ("<dateTime.iso8601>20110931T12:30:01</dateTime.iso8601>", 501320),
        ("<dateTime.iso8601>2011-0901T12:30:01</dateTime.iso8601>", 501320),
        ("<dateTime.iso8601>20110901T12:30</dateTime.iso8601>", 501320),
        ("<dateTime.iso8601>00010101T00:00:00+01:00</dateTime.iso8601>", 501320),
        ("<base64>a</base64>", 501220),
        ("<base64>aGk$</base64>", 501220),
        ("<nil>x</nil>", 500020),
        ("<int>1</int><int>2</int>", 500020),
        ("text<int>1</int>", 500020),
        ("<int><int>1</int></int>", 500020),
        ("<value>1</value>", 500010),
        ("<array/>", 501420),
        ("<array><data><int>1</int></data></array>", 500020),
        ("<struct><member><name>a</name></member></struct>", 501520),
        ("<struct><member><value>a</value></member></struct>", 501520),
        (
            "<struct><member><name>a</name><value/></member><member><name>a</name><value/></member></struct>",
            501537,
        ),
        ("<string>&nbsp;</string>", 500020),
        ("<string>&#0;</string>", 500020),
        ("<string>\x01</string>", 500020),
        ("<float>1</float>", 500020),
        ("<int a='1'>1</int>", 500020),
    ],
)
def test_refuses_with_the_code_of_the_type(inner: str, code: int) -> None:
    assert refused(with_value(inner)).code == code


def test_a_fault_names_the_place() -> None:
    body = dumps("key", {"disks": [{"size": "?"}]}).replace(b"<string>?</string>", b"<int>?</int>")
    fault = refused(body)
    expected = "Error on object : OBJECT_INTEGER (CAUSE_SYNTAX) [argument 2, disks, 0, size: not an integer]"
    assert fault.text == expected
    assert fault.fields == ("disks", "0", "size")


@pytest.mark.parametrize(
    "call",
    [
        b"<methodCall><methodName>a.b</methodName></methodCall>",
        b"<methodCall><methodName>a.b</methodName><params/></methodCall>",
        b"<?xml version='1.0'?>\n<!-- x --><methodCall>\n<methodName>a.b</methodName>\n</methodCall>\n",
        b"\xef\xbb\xbf<?xml version='1.0'?><methodCall><methodName>a.b</methodName></methodCall>",
    ],
)
def test_parameters_are_optional(call: bytes) -> None:
    assert parse_request(call) == ("a.b", [])


@pytest.mark.parametrize("name", ["", " a", "a b", "a\n", "x" * 129, "\u00e9", "a;b"])
def test_method_names_are_plain(name: str) -> None:
    body = f"<methodCall><methodName>{name}</methodName></methodCall>".encode()
    assert refused(body).code == 501620


@pytest.mark.parametrize(
    "call",
    [
        b"",
        b"hello",
        b"<methodCall/>",
        b"<methodResponse/>",
        b"<value/>",
        b"<methodCall><params/><methodName>a</methodName></methodCall>",
        b"<methodCall><methodName>a</methodName><params/><params/></methodCall>",
        b"<methodCall><methodName>a</methodName><params><value/></params></methodCall>",
        b"<methodCall><methodName>a</methodName><params><param/></params></methodCall>",
        b"<methodCall><methodName>a</methodName>text</methodCall>",
        b"<methodCall><methodName>a</methodName></methodCall><methodCall/>",
        b"<methodCall xmlns='http://ws.apache.org/xmlrpc/namespaces/extensions'/>",
        b" <?xml version='1.0'?><methodCall><methodName>a</methodName></methodCall>",
    ],
)
def test_refuses_what_is_no_call(call: bytes) -> None:
    assert refused(call).code == 500020


def test_latin_1_is_read_by_its_declaration() -> None:
    body = b"<?xml version='1.0' encoding='ISO-8859-1'?>" + with_value("caf\u00e9").decode().encode("latin-1")
    assert parse_request(body) == ("m", ["caf\u00e9"])


@pytest.mark.parametrize(
    "value", [2**31, float("inf"), float("nan"), object(), {1: "a"}, 1j, xmlrpc.client.Binary(b"")]
)
def test_values_that_cannot_be_written_are_defects(value: Any) -> None:
    with pytest.raises((OverflowError, ValueError, TypeError)):
        render_response(value)


def test_dates_are_written_as_clients_parse_them() -> None:
    west = datetime(2011, 9, 1, 12, 30, 1, 999, tzinfo=timezone(timedelta(hours=-2)))
    assert b"<dateTime.iso8601>20110901T14:30:01</dateTime.iso8601>" in render_response(west)
    assert b"<dateTime.iso8601>09991231T00:00:00</dateTime.iso8601>" in render_response(
        datetime(999, 12, 31, tzinfo=UTC)
    )


def test_doubles_have_no_exponent() -> None:
    answer = render_response([1e22, 1e-7, 102400.0])
    assert b"<double>10000000000000000000000</double>" in answer
    assert b"<double>0.0000001</double>" in answer
    assert b"<double>102400.0</double>" in answer
