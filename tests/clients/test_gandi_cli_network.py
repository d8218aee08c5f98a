"""gandi.cli: addresses and private networks."""

from collections.abc import Iterator

import pytest

from tests.clients.gandi import Gandi
from tests.devices.kit import World
from tests.service.client import Struct
from tests.service.guest import Guest, banner
from tests.service.waiting import until

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def lan(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Struct]]:
    """A private network, and on it the machines `hidden`, which has no other, and `gate`, which has."""
    gandi = Gandi(world.client, tmp_path_factory.mktemp("lan") / "home", world.identity)
    said = gandi.work("vlan", "create", "--name", "lan", "--subnet", "10.9.0.0/24", "--gateway", "10.9.0.254")
    assert "Your vlan lan has been created." in said.text
    said = gandi.background(
        "vm", "create", "--hostname", "hidden", "--vlan", "lan", "--ip", "10.9.0.7",
        "--sshkey", gandi.public_key,
    )  # fmt: skip
    assert "* Private only ip vm" in said.text
    assert "ip4:\t10.9.0.7\n" in said.text
    said = gandi.work(
        "vm", "create", "--hostname", "gate", "--vlan", "lan", "--ip-version", "4",
        "--sshkey", gandi.public_key,
    )  # fmt: skip
    assert "ip v4+v6+private" in said.text
    made = {one["hostname"]: world.client.vm(one["id"]) for one in world.client.call("hosting.vm.list")}
    yield {name: made[name] for name in ("hidden", "gate")}
    world.discard(made["hidden"]["id"], made["gate"]["id"])
    gandi.work("vlan", "delete", "-f", "lan")
    assert gandi.run("vlan", "list").text == ""


def test_who_is_on_the_private_network(world: World, gandi: Gandi, lan: dict[str, Struct]) -> None:
    hidden, gate = lan["hidden"], lan["gate"]
    assert [iface["type"] for iface in hidden["ifaces"]] == ["private"]
    assert [iface["type"] for iface in gate["ifaces"]] == ["public", "private"]
    own = gate["ifaces"][1]["ips"][0]["ip"]
    guest = world.reach(gate)
    until(lambda: own in guest.run("ip -o address"), 20, f"the guest has {own}")
    until(lambda: guest.attempt("ping -c 1 -W 2 10.9.0.7").returncode == 0, 30, "the hidden one answers it")
    assert not banner("10.9.0.7")

    shown = gandi.run("vlan", "info", "lan").fields
    assert shown == {
        "name": "lan", "state": "created", "datacenter": "FR-SD5", "subnet": "10.9.0.0/24",
        "gateway": "10.9.0.254",
    }  # fmt: skip
    (listed,) = gandi.run("vlan", "list", "--id", "--subnet", "--gateway").records
    assert listed.pop("id").isdigit()
    assert listed == shown
    said = gandi.run("vlan", "info", "--ip", "lan")
    assert said.fields["gateway"] == "10.9.0.254 don't exists"
    assert [(one["vm"], one["ip"]) for one in said.records[1:]] == [("hidden", "10.9.0.7"), ("gate", own)]
    addresses = gandi.run("ip", "list", "--vlan", "lan", "--vm").records
    assert {one["vm"] for one in addresses} == {"hidden", "gate"}
    assert "<Fault 537739:" in gandi.refused("vlan", "delete", "-f", "lan")


def test_update_a_vlan(world: World, gandi: Gandi, lan: dict[str, Struct], web: Struct) -> None:
    gandi.run("vlan", "update", "lan", "--name", "office")
    assert gandi.run("vlan", "list").column("name") == ["office"]
    gandi.run("vlan", "update", "office", "--name", "lan", "--gateway", "gate")
    said = gandi.run("vlan", "info", "--ip", "lan")
    assert said.fields["gateway"] == "true"
    (vlan,) = world.client.call("hosting.vlan.list", {"name": "lan"})
    assert vlan["gateway"] == lan["gate"]["ifaces"][1]["ips"][0]["ip"]
    assert "Can't find 'web' in 'lan' vlan" in gandi.run("vlan", "update", "lan", "--gateway", "web").text
    assert "<Fault 537737:" in gandi.refused("vlan", "update", "lan", "--gateway", "10.8.0.1")
    assert "<Fault 537741:" in gandi.refused("vlan", "create", "--name", "lan")
    assert "<Fault 537737:" in gandi.refused("vlan", "create", "--name", "x", "--subnet", "8.8.8.0/24")

    # a machine that is to become the gateway is put on the network
    said = gandi.work("vlan", "update", "lan", "--create", "--gateway", "web")
    assert "Will create a new ip in this vlan for vm web" in said.text
    shown = world.client.vm(web["id"])
    own = shown["ifaces"][1]["ips"][0]["ip"]
    (vlan,) = world.client.call("hosting.vlan.list", {"name": "lan"})
    assert vlan["gateway"] == own
    gandi.background("ip", "delete", "-f", own)
    assert len(world.client.vm(web["id"])["ifaces"]) == 1


def test_a_private_address(world: World, gandi: Gandi, lan: dict[str, Struct], web: Struct) -> None:
    guest = world.reach(web)
    said = gandi.work("ip", "create", "--datacenter", "FR-SD5", "--vlan", "lan", "--ip", "10.9.0.40")
    assert "ip4:\t10.9.0.40\n" in said.text
    assert "10.9.0.40" in gandi.run("ip", "list", "--detached", "--type", "private").column("ip")
    wrong = ("ip", "create", "--datacenter", "FR-SD5", "--vlan", "lan", "--ip")
    assert "<Fault 531841:" in gandi.refused(*wrong, "10.9.0.40")
    assert "<Fault 531837:" in gandi.refused(*wrong, "10.8.0.40")

    gandi.work("ip", "attach", "-f", "10.9.0.40", "web")
    _has(guest, "10.9.0.40")
    assert "10.9.0.40" not in gandi.run("ip", "list", "--detached").column("ip")
    assert "already attached to this vm" in gandi.run("ip", "attach", "-f", "10.9.0.40", "web").text
    assert gandi.run("ip", "info", "10.9.0.40").fields == {
        "ip": "10.9.0.40", "state": "created", "reverse": "", "type": "private", "vlan": "lan",
        "vm": "web", "datacenter": "FR-SD5",
    }  # fmt: skip
    # from one machine to another
    said = gandi.background("ip", "attach", "-f", "10.9.0.40", "gate")
    assert "Will detach it." in said.text
    _has(world.reach(lan["gate"]), "10.9.0.40")
    assert "10.9.0.40" not in guest.run("ip -o address")
    gandi.background("ip", "detach", "-f", "10.9.0.40")
    assert "10.9.0.40" in gandi.run("ip", "list", "--detached").column("ip")
    gandi.background("ip", "delete", "-f", "10.9.0.40")
    assert "unknown identifier" in gandi.refused("ip", "info", "10.9.0.40")


def test_a_public_address(world: World, gandi: Gandi, web: Struct) -> None:
    guest = world.reach(web)
    said = gandi.work("ip", "create", "--datacenter", "FR-SD5", "--attach", "web")
    v4, v6 = (line.split("\t")[1] for line in said.text.splitlines() if line.startswith("ip"))
    _has(guest, v4)
    _has(guest, v6)
    until(lambda: banner(v4), 20, "the new address answers")
    said = gandi.work("ip", "update", v4, "--reverse", "web.example.net")
    assert gandi.run("ip", "info", v4).fields["reverse"] == "web.example.net"
    listed = gandi.run("ip", "list", "--attached", "--type", "public", "--version", "--reverse", "--vm")
    assert {
        "ip": v4, "state": "created", "version": "4", "reverse": "web.example.net", "type": "public",
        "vm": "web", "datacenter": "FR-SD5",
    } in listed.records  # fmt: skip
    assert "<Fault 501237:" in gandi.refused("ip", "update", v4, "--reverse", "no name")
    # all addresses of the interface go
    said = gandi.background("ip", "delete", "-f", v6)
    assert "Will detach it." in said.text
    assert {v4, v6}.isdisjoint(gandi.run("ip", "list").column("ip"))
    assert v4 not in guest.run("ip -o address")
    assert guest.run("hostname") == "web"


def test_an_address_in_the_clients_own_default(gandi: Gandi) -> None:
    said = gandi.attempt("ip", "create", "--ip-version", "6")
    assert (said.status, said.errors) == (
        0,
        "[deprecated]: ISO code for datacenter filter use dc_code instead\n",
    )
    (line,) = (line for line in said.text.splitlines() if line.startswith("ip"))
    assert line.startswith("ip6:\t")
    listed = gandi.run("ip", "list", "--datacenter", "LU-BI1", "--version").records
    assert [(one["ip"], one["datacenter"]) for one in listed] == [(line.split("\t")[1], "LU-BI1")]
    gandi.background("ip", "delete", "-f", line.split("\t")[1])


def _has(guest: Guest, ip: str) -> None:
    until(lambda: f" {ip}/" in guest.run("ip -o address"), 20, f"the guest has {ip}")
