"""Requests made to hurt: each ends in a fault, soon, and without memory kept."""

import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.methods.faults import Fault
from api.wire.codec import MAX_BYTES, parse_request

CALL = b"<methodCall><methodName>m</methodName><params><param><value>%s</value></param></params></methodCall>"
LAUGHS = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
ENTITY = b'<!DOCTYPE x [<!ENTITY l0 "lol">%s]>' % LAUGHS
FRAME = b"<array><data><value>", b"</value></data></array>"


@pytest.fixture
def bounded() -> Iterator[None]:
    """A second of processor time, 64 MiB more memory at the worst moment."""
    time_before, peak_before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - time_before < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before < 64 * 1024


def filled(piece: bytes) -> bytes:
    """`piece` again and again, nearly up to the limit of a request."""
    return piece * ((MAX_BYTES - 1000) // len(piece))


HOSTILE = {
    "billion laughs": ENTITY + CALL % b"&l9;",
    "quadratic blow-up": b'<!DOCTYPE x [<!ENTITY a "%s">]>' % (b"a" * 50000) + CALL % (b"&a;" * 50000),
    "external entity": b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + CALL % b"&e;",
    "external subset": b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">' + CALL % b"",
    "parameter entity": b'<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>' + CALL % b"",
    "empty declaration": b"<!DOCTYPE methodCall>" + CALL % b"",
    "declaration after a comment": b"<?xml version='1.0'?><!-- --> \n<!DOCTYPE x []>" + CALL % b"",
    "undeclared entity": CALL % b"&x;",
    "nested too deep": CALL % (FRAME[0] * 32 + FRAME[1] * 32),
    "nested absurdly deep": CALL % (FRAME[0] * 20000 + FRAME[1] * 20000),
    "never closed": filled(b"<value>"),
    "too long": b"<methodCall>" + b" " * MAX_BYTES,
    "comments never closed": b"<methodCall>" + filled(b"<!--"),
    "CDATA never closed": b"<methodCall>" + filled(b"<![CDATA["),
    "too many parameters": CALL % b"</value></param>" + filled(b"<param><value/></param>"),
    "many attributes": b"<methodCall %s/>" % b" ".join(b"a%d=''" % n for n in range(80000)),
    "many namespaces": b"<methodCall%s/>"
    % filled(b" xmlns:ex='http://ws.apache.org/xmlrpc/namespaces/extensions'"),
    "white space in a tag": b"<methodCall" + filled(b" "),
    "processing instruction": b"<?xml-stylesheet href='x'?>" + CALL % b"",
    "long name": b"<" + filled(b"a") + b"/>",
    "many digits": CALL % (b"<int>%s</int>" % filled(b"9")),
    "many decimals": CALL % (b"<double>%s</double>" % filled(b"9")),
    "UTF-16": (CALL % b"").decode().encode("utf-16"),
    "UTF-16 without a mark": (CALL % b"").decode().encode("utf-16-le"),
    "UTF-32": (CALL % b"").decode().encode("utf-32"),
    "UTF-7": b"<?xml version='1.0' encoding='UTF-7'?>+ADw-methodCall+AD4-",
    "UTF-7 behind a declaration": b"<?xml version='1.0' encoding='UTF-7'?>" + CALL % b"+ADw-",
    "EBCDIC": (CALL % b"").decode().encode("cp500"),
    "not UTF-8": CALL % b"\xff\xfe",
    "overlong UTF-8": CALL % b"\xc0\xbc",
    "surrogate": CALL % b"\xed\xa0\x80",
    "declared ASCII": b"<?xml version='1.0' encoding='us-ascii'?>" + CALL % "\u00e9".encode(),
    "NUL": CALL % b"a\x00b",
    "NULs": b"\x00" * 100000,
    "truncated": (CALL % b"<string>abc")[:90],
}


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_ends_in_a_fault(body: bytes) -> None:
    with pytest.raises(Fault) as caught:
        parse_request(body)
    assert caught.value.code // 1000 in (500, 501)
    assert len(caught.value.text) < 500


def test_the_bounds_are_where_they_are_said_to_be() -> None:
    assert parse_request(CALL % (FRAME[0] * 31 + FRAME[1] * 31))[0] == "m"
    script = b"x" * (MAX_BYTES - len(CALL) + 2)
    assert parse_request(CALL % script) == ("m", [script.decode()])
    with pytest.raises(Fault, match="longer than 50 bytes"):
        parse_request(CALL % b"", max_bytes=50)


def test_names_are_not_kept() -> None:
    before = _resident()
    for turn in range(20):
        body = b"<methodCall>" + b"".join(b"<n%d-%d/>" % (turn, n) for n in range(60000))
        with pytest.raises(Fault):
            parse_request(body[:MAX_BYTES])
    assert _resident() - before < 8


@given(st.binary(max_size=400))
def test_no_bytes_raise_anything_but_a_fault(body: bytes) -> None:
    _only_faults(body)


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 20))
def test_no_damage_raises_anything_but_a_fault(noise: bytes, at: int, cut: int) -> None:
    whole = CALL % b"<struct><member><name>a</name><value><int>1</int></value></member></struct>"
    _only_faults(whole[:at] + noise + whole[at + cut :])


TAGS = ["value", "int", "i8", "string", "array", "data", "struct", "member", "name", "nil", "base64", "param"]


@given(st.lists(st.sampled_from([*(f"<{t}>" for t in TAGS), *(f"</{t}>" for t in TAGS), "1", " ", "<nil/>"])))
def test_no_markup_raises_anything_but_a_fault(pieces: list[str]) -> None:
    _only_faults(CALL % "".join(pieces).encode())


def _only_faults(body: bytes) -> None:
    try:
        parse_request(body)
    except Fault:
        return


def _resident() -> int:
    """Memory of this process, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20
