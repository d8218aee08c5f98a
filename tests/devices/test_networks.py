"""Interfaces attached and detached, private networks, and who reaches whom."""

import subprocess
from collections.abc import Iterator

import pytest

from hypervisor.network import nft
from hypervisor.network.errors import NoFirewall
from tests.devices.kit import World
from tests.service.client import Struct, address
from tests.service.guest import Guest, banner
from tests.service.waiting import until

pytestmark = pytest.mark.guest

SUBNET = "192.168.77.0/24"


@pytest.fixture(scope="module")
def vlans(world: World) -> Iterator[tuple[int, int]]:
    """Two private networks with the same subnet."""
    ids = [create_vlan(world, name, subnet=SUBNET) for name in ("first", "second")]
    yield ids[0], ids[1]
    world.client.done([world.client.call("hosting.vlan.delete", one) for one in ids])
    assert world.client.call("hosting.vlan.count") == 0


@pytest.fixture(scope="module")
def vm(world: World, vlans: tuple[int, int]) -> Iterator[Struct]:
    """A running VM with a public interface; made after the networks, and deleted before them."""
    assert vlans
    (made,) = world.vms({"hostname": "both"})
    yield made
    world.discard(made["id"])


def create_vlan(world: World, name: str, **spec: str) -> int:
    operation = world.client.call("hosting.vlan.create", {"name": name, "datacenter_id": world.here, **spec})
    assert operation["type"] == "vlan_create"
    (done,) = world.client.done(operation)
    return int(done["params"]["vlan_id"])


def cards(guest: Guest) -> set[str]:
    """The guest's network cards but for the loopback."""
    return set(guest.run("ls /sys/class/net").split()) - {"lo"}


def has_address(guest: Guest, wanted: str, seconds: float = 30) -> str:
    """The card that has the address, once one has it."""
    look = f"ip -o addr | awk '$4 ~ \"^{wanted}/\" {{print $2}}'"
    return until(lambda: guest.run(look), seconds, lambda: f"{wanted}: {guest.run('ip -o addr')}")


def reaches(guest: Guest, other: str) -> bool:
    """Whether the guest gets an answer of `other`'s ssh server."""
    return "SSH-2.0" in guest.attempt(f"nc -w 3 {other} 22 </dev/null | head -c 7").stdout


def rules() -> set[tuple[str, ...]]:
    """What the sets of our tables hold; nothing while there is none."""
    sets = {
        "inet": ["public", "private", "open_ports"],
        "bridge": ["taps", "macs", "ipv4", "ipv6", "shared4", "shared6", "targets", "clients"],
    }
    try:
        return {
            (name, *element)
            for family, names in sets.items()
            for name, held in nft.elements(family, names, "test").items()
            for element in held
        }
    except NoFirewall:
        return set()


def test_private_networks_are_listed_changed_and_deleted(world: World) -> None:
    vlan = create_vlan(world, "office", subnet="10.7.13.0/24", gateway="10.7.13.254")
    expected = {
        "id": vlan, "name": "office", "subnet": "10.7.13.0/24", "gateway": "10.7.13.254", "state": "created",
        "uuid": vlan, "datacenter_id": world.here,
    }  # fmt: skip
    shown = world.client.call("hosting.vlan.info", vlan)
    assert expected.items() <= shown.items()
    assert shown["datacenter"]["id"] == world.here
    for opts in ({"name": "office"}, {"id": vlan}, {"datacenter_id": [world.here], "id": [vlan]}):
        assert world.client.call("hosting.vlan.list", opts) == [expected]
        assert world.client.call("hosting.vlan.count", opts) == 1
    (network,) = (one for one in world.service.inventory().networks if one.startswith("hypervisor-vlan"))

    update = world.client.call("hosting.vlan.update", vlan, {"name": "home", "gateway": "10.7.13.1"})
    assert update["type"] == "vlan_update"
    world.client.done(update)
    shown = world.client.call("hosting.vlan.info", vlan)
    assert (shown["name"], shown["gateway"]) == ("home", "10.7.13.1")
    assert "10.7.13.1" in world.service.host.connection.networkLookupByName(network).XMLDesc()

    taken = world.client.refusal("hosting.vlan.create", {"name": "home", "datacenter_id": world.here})
    assert taken.faultCode == 537741
    (iface,) = world.ifaces({"vlan": vlan})
    assert iface["ips"][0]["ip"] == "10.7.13.2"
    assert world.client.refusal("hosting.vlan.delete", vlan).faultCode == 537739
    world.throw_away(ifaces={iface["id"]})
    world.client.done(world.client.call("hosting.vlan.delete", vlan))
    assert world.client.refusal("hosting.vlan.info", vlan).faultCode == 537742
    assert network not in world.service.inventory().networks


def test_a_public_interface_comes_and_goes(world: World, vm: Struct) -> None:
    guest = world.reach(vm)
    before = cards(guest)
    (iface,) = world.ifaces({"ip_version": 4, "bandwidth": 20480.0})
    assert (iface["state"], iface["vm_id"], iface["num"]) == ("free", None, None)
    ip = iface["ips"][0]["id"]
    world.client.done(world.client.call("hosting.ip.update", ip, {"reverse": "web.example.net"}))
    assert world.client.call("hosting.ip.info", ip)["reverse"] == "web.example.net"
    operation = world.client.call("hosting.vm.iface_attach", vm["id"], iface["id"])
    assert [operation[key] for key in ("type", "vm_id", "iface_id")] == [
        "iface_attach",
        vm["id"],
        iface["id"],
    ]
    world.client.done(operation)
    until(lambda: len(cards(guest)) == len(before) + 1, 20, "the guest has another card")
    (card,) = cards(guest) - before
    for ip in iface["ips"]:
        assert has_address(guest, ip["ip"]) == card
    shown = world.client.call("hosting.iface.info", iface["id"])
    assert (shown["state"], shown["vm_id"], shown["num"], shown["bandwidth"]) == (
        "used",
        vm["id"],
        1,
        20480.0,
    )
    assert world.client.vm(vm["id"])["ifaces_id"] == [vm["ifaces_id"][0], iface["id"]]
    until(lambda: banner(iface["ips"][0]["ip"]), 20, "the new address answers")

    operation = world.client.call("hosting.vm.iface_detach", vm["id"], iface["id"])
    assert operation["type"] == "iface_detach"
    world.client.done(operation)
    assert cards(guest) == before
    shown = world.client.call("hosting.iface.info", iface["id"])
    assert (shown["state"], shown["vm_id"], shown["num"]) == ("free", None, None)

    # halted: even the last one
    world.power_off(vm["id"])
    world.do("iface_detach", vm["id"], vm["ifaces_id"][0])
    assert world.client.vm(vm["id"])["ifaces_id"] == []
    world.do("iface_attach", vm["id"], iface["id"])
    world.do("iface_attach", vm["id"], vm["ifaces_id"][0])
    world.do("start", vm["id"])
    again = Guest(iface["ips"][0]["ip"], world.identity).ready()
    assert len(cards(again)) == 2
    world.do("iface_detach", vm["id"], iface["id"])
    guest.ready()
    assert len(cards(guest)) == 1
    world.throw_away(ifaces={iface["id"]})


def test_rules_that_are_removed_come_back(world: World, vm: Struct) -> None:
    """As after a restart of nftables, which empties it; here libvirt's own rules stay."""
    (iface,) = world.ifaces({"ip_version": 4})
    world.do("iface_attach", vm["id"], iface["id"])
    before = rules()
    assert {name for name, *_ in before} >= {"public", "private", "taps", "shared4", "shared6"}
    for family in ("inet", "bridge", "bridge", "inet"):
        subprocess.run(["nft", "delete", "table", family, "hypervisor"], check=True)
        until(lambda: rules() == before, 20, lambda: f"missing is {before - rules()}")
    until(lambda: banner(iface["ips"][0]["ip"]), 20, "the new address answers")
    world.do("iface_detach", vm["id"], iface["id"])
    world.throw_away(ifaces={iface["id"]})


def test_who_reaches_whom(world: World, vm: Struct, vlans: tuple[int, int]) -> None:
    first, second = vlans
    mine, theirs, elsewhere = world.ifaces(
        {"vlan": first, "ip": "192.168.77.20"}, {"vlan": first}, {"vlan": second, "ip": "192.168.77.20"}
    )
    assert (mine["type"], mine["vlan"]) == ("private", {"id": first, "name": "first"})
    assert [ip["ip"] for ip in mine["ips"]] == ["192.168.77.20"]
    listed = world.client.call("hosting.iface.list", {"vlan": "first"})
    assert {one["id"] for one in listed} == {mine["id"], theirs["id"]}
    assert world.client.call("hosting.iface.count", {"vlan_id": second, "type": "private"}) == 1

    # a VM with a private interface alone
    operations = world.client.create_from(
        {"hostname": "hidden", "iface_id": theirs["id"], "ssh_key": world.identity.public}
    )
    assert [one["type"] for one in operations] == ["disk_create", "vm_create"]
    world.client.done(operations)
    hidden = world.client.vm(operations[-1]["vm_id"])
    other = address(hidden)
    assert hidden["ifaces_id"] == [theirs["id"]]

    guest = world.reach(vm)
    world.do("iface_attach", vm["id"], mine["id"])
    card = has_address(guest, "192.168.77.20")
    assert card != has_address(guest, guest.address)
    until(lambda: reaches(guest, other), 60, "the VM on the same vlan answers")
    assert guest.run(f"ping -c 1 -W 3 {other} >/dev/null && echo answers") == "answers"
    assert through(guest, other, world) == "hidden\n192.168.77.20\n"
    # both at once: it is reached by its public address, and the gateway is the public one
    assert guest.run("ip route | grep -c ^default") == "1"
    assert card not in guest.run("ip route | grep ^default")
    # from outside nobody gets in, nor does the host have a way
    assert not banner(other)

    # on another vlan with the same addresses nobody is there
    world.do("iface_detach", vm["id"], mine["id"])
    assert not reaches(guest, other)
    world.do("iface_attach", vm["id"], elsewhere["id"])
    has_address(guest, "192.168.77.20")
    assert guest.run(f"ping -c 1 -W 2 {other} >/dev/null || echo silence") == "silence"
    assert not reaches(guest, other)
    # while the other one is there
    world.do("iface_detach", vm["id"], elsewhere["id"])
    world.power_off(vm["id"])
    world.do("iface_attach", vm["id"], mine["id"])
    world.do("start", vm["id"])
    guest.ready()
    has_address(guest, "192.168.77.20")
    until(lambda: reaches(guest, other), 20, "the VM on the same vlan answers again")
    world.do("iface_detach", vm["id"], mine["id"])
    world.discard(hidden["id"])
    world.throw_away(ifaces={mine["id"], theirs["id"], elsewhere["id"]})


def through(guest: Guest, other: str, world: World) -> str:
    """Log in to `other` by way of the guest: its host name, and who it thinks has come."""
    options = [
        "-F", "/dev/null", "-i", str(world.identity.file), "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10",
    ]  # fmt: skip
    proxy = " ".join(["ssh", *options, "-W", f"{other}:22", f"root@{guest.address}"])
    command = "hostname; echo ${SSH_CONNECTION%% *}"
    done = subprocess.run(
        ["ssh", *options, "-o", f"ProxyCommand={proxy}", f"root@{other}", command],
        check=False, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_gateway_may_be_a_guest(world: World, vm: Struct) -> None:
    vlan = create_vlan(world, "routed", subnet="10.9.0.0/28", gateway="10.9.0.14")
    iface, free = world.ifaces({"vlan": vlan, "ip": "10.9.0.14"}, {"vlan": vlan})
    assert free["ips"][0]["ip"] != "10.9.0.14"
    guest = world.reach(vm)
    world.do("iface_attach", vm["id"], iface["id"])
    has_address(guest, "10.9.0.14")
    # a new gateway waits while guests are there, and the operation says so
    (done,) = world.client.done(world.client.call("hosting.vlan.update", vlan, {"gateway": "10.9.0.1"}))
    assert "gateway" in done["params"]["applied"]
    assert guest.run("ip -o addr | grep -c 10.9.0.14") == "1"
    world.do("iface_detach", vm["id"], iface["id"])
    world.throw_away(ifaces={iface["id"], free["id"]})
    world.client.done(world.client.call("hosting.vlan.delete", vlan))


def test_wrong_private_addresses(world: World, vlans: tuple[int, int]) -> None:
    (used,) = world.ifaces({"vlan": vlans[0], "ip": "192.168.77.50"})
    before = world.service.inventory()
    for changes, code in (
        ({"ip": "192.168.78.5"}, 531837),
        ({"ip": "192.168.77.0"}, 531837),
        ({"ip": "192.168.77.255"}, 531837),
        ({"ip": "nonsense"}, 531837),
        ({"ip": "fd00::1"}, 531837),
        ({"ip": "192.168.77.50"}, 531841),
        ({"ip_version": 6}, 531796),
        ({"vlan": 99999}, 537742),
        ({"vlan": None, "ip": "192.168.77.9"}, 531837),
    ):  # fmt: skip
        spec = {"datacenter_id": world.here, "vlan": vlans[0], **changes}
        spec = {key: value for key, value in spec.items() if value is not None}
        refused = world.client.refusal("hosting.iface.create", spec)
        assert refused.faultCode == code, (changes, refused.faultString)
    there = next(one["id"] for one in world.client.call("hosting.datacenter.list") if one["id"] != world.here)
    elsewhere = {"datacenter_id": there, "vlan": vlans[0]}
    assert world.client.refusal("hosting.iface.create", elsewhere).faultCode == 531751
    stranger = world.service.another_account("VLAN-GANDI")
    mine = {"datacenter_id": world.here, "vlan": vlans[0]}
    assert stranger.refusal("hosting.iface.create", mine).faultCode == 537742
    for call in (("info",), ("delete",), ("update", {"name": "x"})):
        refused = stranger.refusal(f"hosting.vlan.{call[0]}", vlans[0], *call[1:])
        assert refused.faultCode == 537742
    for vlan_spec, code in (
        ({"name": "first"}, 537741),
        ({"name": ""}, 537736),
        ({"name": "x", "subnet": "192.168.0.0/31"}, 537737),
        ({"name": "x", "subnet": "8.8.8.0/24"}, 537737),
        ({"name": "x", "subnet": "nonsense"}, 537737),
        ({"name": "x", "subnet": "10.0.0.0/24", "gateway": "10.0.1.1"}, 537737),
        ({"name": "x", "datacenter_id": 999}, 532742),
    ):
        refused = world.client.refusal("hosting.vlan.create", {"datacenter_id": world.here, **vlan_spec})
        assert refused.faultCode == code, (vlan_spec, refused.faultString)
    assert world.client.refusal("hosting.vlan.update", vlans[1], {}).faultCode == 537744
    assert world.client.refusal("hosting.vlan.update", vlans[1], {"name": "first"}).faultCode == 537741
    assert world.service.inventory() == before
    # another account may use the same name
    operation = stranger.call("hosting.vlan.create", {"name": "first", "datacenter_id": world.here})
    (done,) = stranger.done(operation)
    stranger.done(stranger.call("hosting.vlan.delete", done["params"]["vlan_id"]))
    world.throw_away(ifaces={used["id"]})
