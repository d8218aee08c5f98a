"""Addresses and their reverse names."""

from datetime import datetime
from typing import Any

import pytest

from api.store.models import Claim, Job
from tests.methods.world import World


@pytest.fixture
def addresses(world: World) -> World:
    """Two interfaces, one of them of a VM."""
    world.iface(addresses=("192.0.2.5", "2001:db8::5"), vm_id=world.vm("web").id, num=0, state="used")
    world.iface(addresses=("2001:db8::6",), datacenter_id=2)
    return world


def test_struct(addresses: World) -> None:
    shown = addresses.call("hosting.ip.info", 1)
    assert isinstance(shown.pop("date_created"), datetime)
    assert isinstance(shown.pop("date_updated"), datetime)
    assert shown == {
        "id": 1,
        "datacenter_id": 1,
        "iface_id": 1,
        "ip": "192.0.2.5",
        "num": 0,
        "reverse": "",
        "state": "created",
        "version": 4,
    }


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, [1, 2, 3]),
        ({"iface_id": []}, []),
        ({"iface_id": [1, 2]}, [1, 2, 3]),
        ({"iface_id": 2}, [3]),
        ({"datacenter_id": 2}, [3]),
        ({"ip": "192.0.2.5"}, [1]),
        ({"ip": ["2001:db8::5", "2001:db8::6"]}, [2, 3]),
        ({"num": 0}, [1, 3]),
        ({"num": [1]}, [2]),
        ({"version": 4}, [1]),
        ({"version": "6"}, [2, 3]),
        ({"version": ["4", 6]}, [1, 2, 3]),
        ({"version": "5"}, []),
        ({"state": "created"}, [1, 2, 3]),
        ({"reverse": "a.example"}, []),
        ({"vm_hostname": "web"}, [1, 2]),
        ({"vm_hostname": ["db", "web"]}, [1, 2]),
        ({"vm_id": 1}, [1, 2]),
        ({"sort_by": "vm_hostname DESC", "items_per_page": 1}, [1]),
        ({"sort_by": "ip DESC"}, [3, 2, 1]),
    ],
)
def test_filters(addresses: World, options: dict[str, Any], ids: list[int]) -> None:
    assert [one["id"] for one in addresses.call("hosting.ip.list", options)] == ids


def test_update(addresses: World) -> None:
    operation = addresses.call("hosting.ip.update", 1, {"reverse": "web.example.net"})
    assert (operation["type"], operation["step"]) == ("ip_update", "WAIT")
    assert (operation["ip_id"], operation["iface_id"], operation["vm_id"]) == (1, 1, None)
    assert addresses.call("ip.info", 1)["reverse"] == "web.example.net"
    assert addresses.wakes == [None]
    job = addresses.get(Job, 1)
    assert (job.workflow, job.arguments) == ("ip_update", {"iface_id": 1})
    with addresses.store.reading() as session:
        assert session.get(Claim, ("iface:1", 1)) is not None


@pytest.mark.parametrize(
    ("spec", "code", "path"),
    [
        ({}, 501537, ("ip_spec", "reverse")),
        ({"reverse": ""}, 501237, ("ip_spec", "reverse")),
        ({"reverse": "a b"}, 501237, ("ip_spec", "reverse")),
        ({"reverse": "-a.example"}, 501237, ("ip_spec", "reverse")),
        ({"reverse": "a.example.."}, 501237, ("ip_spec", "reverse")),
        ({"reverse": 1}, 501210, ("ip_spec", "reverse")),
        ({"reverse": "a.example", "ip": "192.0.2.6"}, 501537, ("ip_spec", "ip")),
        (None, 501510, ("ip_spec",)),
    ],
)
def test_wrong_update(addresses: World, spec: Any, code: int, path: tuple[str, ...]) -> None:
    fault = addresses.fault("hosting.ip.update", 1, spec)
    assert (fault.code, fault.fields) == (code, path)
    assert addresses.call("operation.count") == 0


def test_a_trailing_dot_is_the_same_name(addresses: World) -> None:
    addresses.call("hosting.ip.update", 1, {"reverse": "web.example.net."})
    assert addresses.call("hosting.ip.info", 1)["reverse"] == "web.example.net"
