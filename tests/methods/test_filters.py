"""Filters, order and pages."""

from datetime import datetime
from typing import Any

import pytest

from api.operations.jobs import Planned
from tests.methods.world import BOB, World

CODES = ["FR-SD5", "LU-BI1", "US-BA1"]


def codes(world: World, options: Any) -> list[str]:
    """The codes of the datacenters that match."""
    return [one["dc_code"] for one in world.call("hosting.datacenter.list", options)]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"dc_code": "FR-SD5"}, CODES[:1]),
        ({"dc_code": ["FR-SD5", "US-BA1"]}, [CODES[0], CODES[2]]),
        ({"dc_code": []}, []),
        ({"dc_code": "fr-sd5"}, []),
        ({"dc_code": 1}, []),
        ({"dc_code": [1, "FR-SD5"]}, CODES[:1]),
        ({"dc_code": None}, CODES),
        ({"iso": "LU"}, CODES[1:2]),
        ({"name": "Bissen"}, CODES[1:2]),
        ({"country": "France"}, CODES[:1]),
        ({"id": 2}, CODES[1:2]),
        ({"id": [1, 3, 99]}, [CODES[0], CODES[2]]),
        ({"id": []}, []),
        ({"id": 99}, []),
        ({"id": 1, "dc_code": "LU-BI1"}, []),
        ({"iaas_opened": True}, CODES[:2]),
        ({"iaas_opened": False}, CODES[2:]),
        ({"iaas_closed": True}, CODES[2:]),
        ({"iaas_closed": False}, CODES[:2]),
        ({"paas_opened": True}, []),
        ({"paas_closed": True}, CODES),
        ({"dc_code": "US-BA1", "iaas_opened": True}, []),
        ({"iso": 1, "iaas_opened": True}, []),
    ],
)
def test_filter(world: World, options: dict[str, Any], found: list[str]) -> None:
    assert codes(world, options) == found


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"sort_by": "id ASC"}, CODES),
        ({"sort_by": "id DESC"}, CODES[::-1]),
        ({"sort_by": "country"}, CODES),
        ({"sort_by": "name desc"}, CODES),
        ({"sort_by": "iaas_closed_for DESC"}, CODES),
        ({"items_per_page": 2}, CODES[:2]),
        ({"items_per_page": 2, "page": 1}, CODES[2:]),
        ({"items_per_page": 2, "page": 2}, []),
        ({"items_per_page": 1, "page": 1, "sort_by": "id DESC"}, CODES[1:2]),
        ({"page": 2**31 - 1, "items_per_page": 10000}, []),
    ],
)
def test_order_and_page(world: World, options: dict[str, Any], found: list[str]) -> None:
    assert codes(world, options) == found


@pytest.mark.parametrize("sort_by", ["size", "id UP", "id ASC, name", "id;--", "~name", "id\x00"])
def test_unknown_order(world: World, sort_by: str) -> None:
    fault = world.fault("hosting.datacenter.list", {"sort_by": sort_by})
    assert (fault.code, fault.fields) == (501237, ("sort_by",))


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("id", "1", 501010),
        ("id", True, 501010),
        ("id", {}, 501010),
        ("dc_code", True, 501210),
        ("dc_code", {}, 501210),
        ("dc_code", 1.5, 501210),
        ("iaas_opened", 1, 501110),
        ("items_per_page", 0, 501037),
        ("items_per_page", 10001, 501037),
        ("items_per_page", "100", 501010),
        ("page", -1, 501037),
        ("sort_by", 1, 501210),
        ("hostname", "x", 501537),
    ],
)
def test_wrong_option(world: World, key: str, value: Any, code: int) -> None:
    fault = world.fault("hosting.datacenter.list", {key: value})
    assert (fault.code, fault.fields) == (code, ("opts", key))


def test_default_page_holds_100(world: World) -> None:
    world.job(*[Planned("vm_stop")] * 101)
    assert len(world.call("operation.list")) == 100
    assert len(world.call("operation.list", {"page": 1})) == 1
    assert world.call("operation.count") == 101


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("web", ["web-1", "WEB-2", "my-web"]),
        ("WEB-", ["web-1", "WEB-2"]),
        ("w*1", ["web-1"]),
        ("w%2", ["WEB-2"]),
        ("", ["web-1", "WEB-2", "my-web", "db"]),
        ("_b", []),
        ("\\", []),
        ("db' OR 1=1 --", []),
    ],
)
def test_pattern(world: World, pattern: str, found: list[str]) -> None:
    for number, hostname in enumerate(["web-1", "WEB-2", "my-web", "db"]):
        world.iface(addresses=(f"192.0.2.{number + 2}",), vm_id=world.vm(hostname).id, num=0)
    world.iface(addresses=("192.0.2.9",))
    listed = world.call("hosting.ip.list", {"~vm_hostname": pattern})
    assert [one["ip"] for one in listed] == [
        f"192.0.2.{number + 2}"
        for number, hostname in enumerate(["web-1", "WEB-2", "my-web", "db"])
        if hostname in found
    ]
    assert world.call("hosting.ip.count", {"~vm_hostname": pattern}) == len(found)


def test_too_long_pattern(world: World) -> None:
    assert world.fault("hosting.ip.list", {"~vm_hostname": "x" * 60000}).code == 501237


def test_before_and_after(world: World) -> None:
    for day in (1, 2, 3):
        (operation,) = world.job(Planned("vm_stop"))
        world.change(operation, date_created=datetime.fromisoformat(f"2013-01-0{day}"))
    count = "operation.count"
    assert world.call(count, {"<date_created": "2013-01-02"}) == 1
    assert world.call(count, {">date_created": datetime.fromisoformat("2013-01-01")}) == 2
    assert world.call(count, {">date_created": "20130101T00:00:00", "<date_created": "2013-01-03"}) == 1
    assert world.call(count, {"date_created": "2013-01-02 00:00:00"}) == 1
    assert world.call(count, {"<date_start": "2013-01-02"}) == 0


def test_count_takes_no_page(world: World) -> None:
    fault = world.fault("operation.count", {"items_per_page": 1})
    assert (fault.code, fault.fields) == (501537, ("opts", "items_per_page"))


def test_lists_end_at_the_account(world: World) -> None:
    world.iface(addresses=("192.0.2.5",))
    assert world.call("hosting.ip.list", {"id": [1]}, key=BOB) == []
    assert world.call("hosting.ip.count", {"ip": "192.0.2.5"}, key=BOB) == 0
