"""Values of the wire against the parameter types: every class of error, its fault and the path of the key."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from api.methods.faults import Fault
from api.methods.parameters import (
    Date,
    Double,
    Hostname,
    Int,
    Ints,
    IpVersion,
    Memory,
    Parameters,
    Text,
    Texts,
    as_faults,
)


class Inner(Parameters):
    number: Int | None = None


class Sample(Parameters):
    number: Int | None = None
    bounded: Annotated[Int, Field(ge=1, le=8)] | None = None
    text: Text | None = None
    short: Annotated[str, Field(max_length=3)] | None = None
    flag: bool | None = None
    double: Double | None = None
    positive: Annotated[Double, Field(gt=0)] | None = None
    numbers: Ints | None = None
    texts: Texts | None = None
    array: list[Inner] | None = None
    struct: Inner | None = None
    date: Date | None = None
    before: Annotated[Date | None, Field(alias="<date")] = None
    hostname: Hostname | None = None
    memory: Memory | None = None
    ip_version: IpVersion | None = None


class Mandatory(Parameters):
    name: Text


def faults(value: Any, model: type[Parameters] = Sample) -> list[Fault]:
    """The faults of a struct."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return as_faults(caught.value)


A_DATE = datetime.fromisoformat("2013-01-02T03:04:05")

WRONG = [
    ("number", "1", 501010),
    ("number", 1.0, 501010),
    ("number", True, 501010),
    ("number", b"1", 501010),
    ("number", [1], 501010),
    ("number", {}, 501010),
    ("number", A_DATE, 501010),
    ("number", 2**31, 501037),
    ("number", -(2**31) - 1, 501037),
    ("number", 10**400, 501037),
    ("bounded", 0, 501037),
    ("bounded", 9, 501037),
    ("text", 1, 501210),
    ("text", b"text", 501210),
    ("text", ["text"], 501210),
    ("text", "x" * 65536, 501237),
    ("short", "xxxx", 501237),
    ("flag", 1, 501110),
    ("flag", 0, 501110),
    ("flag", "true", 501110),
    ("double", "1.5", 501810),
    ("double", True, 501810),
    ("double", float("nan"), 501837),
    ("double", float("inf"), 501837),
    ("positive", 0, 501037),
    ("positive", -1.5, 501837),
    ("numbers", "1", 501010),
    ("numbers", 2**31, 501037),
    ("numbers", {}, 501010),
    ("numbers", list(range(1001)), 501437),
    ("texts", 1, 501210),
    ("array", {}, 501410),
    ("array", "x", 501410),
    ("struct", [], 501510),
    ("struct", "x", 501510),
    ("date", "yesterday", 501320),
    ("date", 20130101, 501320),
    ("date", "2013-13-01", 501320),
    ("<date", "", 501320),
    ("hostname", "-web", 530238),
    ("hostname", "web_1", 530238),
    ("hostname", "web\n", 530238),
    ("hostname", "wéb", 530238),
    ("hostname", "a..b", 530238),
    ("hostname", "", 530238),
    ("hostname", "a" * 64, 530238),
    ("hostname", ".".join(["a" * 63] * 4), 530238),
    ("hostname", 3, 501210),
    ("memory", 0, 530237),
    ("memory", -64, 530237),
    ("memory", 100, 530237),
    ("memory", "512", 501010),
    ("ip_version", 5, 501037),
    ("ip_version", "5", 501237),
    ("ip_version", True, 501010),
    ("ip_version", 4.0, 501010),
    ("unknown", 1, 501537),
]


@pytest.mark.parametrize(("key", "value", "code"), WRONG)
def test_wrong_value(key: str, value: Any, code: int) -> None:
    (fault,) = faults({key: value})
    assert (fault.code, fault.fields) == (code, (key,))
    assert fault.text.startswith("Error on object : OBJECT_")
    assert key.lstrip("<") in fault.text


@pytest.mark.parametrize(
    ("value", "code", "path"),
    [
        ({"array": [{"number": 1}, {"number": "1"}]}, 501010, ("array", "1", "number")),
        ({"struct": {"number": True}}, 501010, ("struct", "number")),
        ({"struct": {"other": 1}}, 501537, ("struct", "other")),
        ({"numbers": [1, "2"]}, 501010, ("numbers", "1")),
        ({"texts": ["a", 2]}, 501210, ("texts", "1")),
    ],
)
def test_path_of_a_wrong_value(value: Any, code: int, path: tuple[str, ...]) -> None:
    (fault,) = faults(value)
    assert (fault.code, fault.fields) == (code, path)


def test_missing_key() -> None:
    (fault,) = faults({}, Mandatory)
    assert (fault.code, fault.fields) == (501537, ("name",))
    assert fault.text == "Error on object : OBJECT_STRUCT (CAUSE_BADPARAMETER) [name: the key is mandatory]"


@pytest.mark.parametrize("value", [1, "x", [], True])
def test_no_struct(value: Any) -> None:
    (fault,) = faults(value)
    assert (fault.code, fault.fields) == (501510, ())


def test_types_come_before_values() -> None:
    found = faults({"bounded": 9, "unknown": 1, "date": "x", "text": 1})
    assert [fault.code for fault in found] == [501210, 501320, 501037, 501537]


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("number", 2**31 - 1, 2**31 - 1),
        ("number", -(2**31), -(2**31)),
        ("double", 1, 1.0),
        ("double", 102400.0, 102400.0),
        ("numbers", 1, [1]),
        ("numbers", [], []),
        ("texts", "a", ["a"]),
        ("texts", ["a", "b"], ["a", "b"]),
        ("hostname", "web-1.example.net", "web-1.example.net"),
        ("memory", 64, 64),
        ("ip_version", "4", 4),
        ("ip_version", 6, 6),
        ("date", A_DATE, A_DATE),
        ("date", A_DATE.replace(tzinfo=UTC), A_DATE),
        (
            "date",
            A_DATE.replace(tzinfo=timezone(timedelta(hours=2))),
            datetime.fromisoformat("2013-01-02T01:04:05"),
        ),
        ("date", "20130102T03:04:05", A_DATE),
        ("date", "2013-01-02 03:04:05", A_DATE),
        ("date", "2013-01-02T03:04:05", A_DATE),
        ("date", "2013-01-02", datetime.fromisoformat("2013-01-02")),
        ("text", None, None),
        ("numbers", None, None),
    ],
)
def test_right_value(key: str, value: Any, kept: Any) -> None:
    found = getattr(Sample.model_validate({key: value}), key)
    assert (type(found), found) == (type(kept), kept)


wire = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(sorted({field.alias or name for name, field in Sample.model_fields.items()}))


@given(st.dictionaries(keys | st.text(max_size=5), wire, max_size=4))
def test_whatever_comes_is_kept_or_a_fault(value: dict[str, Any]) -> None:
    try:
        Sample.model_validate(value)
    except ValidationError as error:
        found = as_faults(error)
        assert found
        assert all(500000 <= fault.code < 600000 and fault.fields[0] in value for fault in found)


def test_a_long_unknown_key_is_cut_in_the_text() -> None:
    (fault,) = faults({"x" * 10000: 1})
    assert len(fault.text) < 300
