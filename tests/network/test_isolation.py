"""Guests who send as somebody else: nobody hears them, on a datacenter's network."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from itertools import pairwise
from pathlib import Path

import libvirt
import pytest

from hypervisor.domain import power
from hypervisor.domain.spec import InterfaceSpec
from hypervisor.network import (
    Mode,
    NetworkSpec,
    Reservation,
    assign,
    bridge,
    ensure,
    eui64,
    nft,
    release,
    remove,
    reservations,
    share,
    tap_of,
)
from tests.network import frames
from tests.network.asker import Asker, answers
from tests.network.frames import ALL_NODES, EVERYBODY, Tap, arp, bootp, icmp6, ipv4, neighbour, udp6
from tests.network.guest import Guest
from tests.network.machine import tiny
from tests.service.guest import Console
from tests.service.guest import Guest as RealGuest
from tests.service.guest import Identity as SshIdentity

pytestmark = pytest.mark.lab

LINK = IPv6Interface("fe80::/64")
NOBODY4, NOBODY6 = IPv4Address(0), IPv6Address(0)
BROADCAST4, SERVERS6, ROUTERS6 = (
    IPv4Address("255.255.255.255"),
    IPv6Address("ff02::1:2"),
    IPv6Address("ff02::2"),
)
STRANGER = "52:54:00:88:00:99"


@dataclass(frozen=True)
class Identity:
    """Who a guest is."""

    mac: str
    ipv4: IPv4Address
    ipv6: IPv6Address

    @property
    def link(self) -> IPv6Address:
        return eui64(LINK, self.mac)

    @property
    def reservation(self) -> Reservation:
        return Reservation(self.mac, self.ipv4, self.ipv6)


def identity(spec: NetworkSpec, number: int) -> Identity:
    assert spec.ipv4
    assert spec.ipv6
    mac = f"52:54:00:88:00:{number:02x}"
    return Identity(mac, spec.ipv4.network[number], eui64(spec.ipv6, mac))


@pytest.fixture(scope="module")
def public(connection: libvirt.virConnect) -> Iterator[NetworkSpec]:
    """A network as a datacenter has it."""
    spec = NetworkSpec(
        "iso-public", "iso-public", IPv4Interface("10.220.0.1/24"), IPv6Interface("fd5e:d30::1/64")
    )
    ensure(connection, spec)
    yield spec
    remove(connection, spec.name, force=True)


@pytest.fixture(scope="module")
def other(connection: libvirt.virConnect) -> Iterator[NetworkSpec]:
    """Another one."""
    spec = NetworkSpec(
        "iso-other", "iso-other", IPv4Interface("10.221.0.1/24"), IPv6Interface("fd5e:d31::1/64")
    )
    ensure(connection, spec)
    yield spec
    remove(connection, spec.name, force=True)


@pytest.fixture(scope="module")
def private(connection: libvirt.virConnect) -> Iterator[NetworkSpec]:
    """A vlan."""
    spec = NetworkSpec("iso-private", "iso-private", IPv4Interface("10.222.0.0/24"), mode=Mode.PRIVATE)
    ensure(connection, spec)
    yield spec
    remove(connection, spec.name, force=True)


Machine = Callable[[NetworkSpec, str], Guest]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Plug a guest with that MAC into a network as a machine is: its tap has the name that a domain's has."""
    made: list[Guest] = []

    def plugged(spec: NetworkSpec, mac: str) -> Guest:
        guest = Guest(f"ti{len(made)}", tmp_path)
        made.append(guest)
        guest.plug(spec.bridge, mac, tap=tap_of(mac))
        return guest

    yield plugged
    for guest in made:
        guest.remove()


def honest(me: Identity, you: Identity) -> dict[str, bytes]:
    """What a guest has to be able to send."""
    to_you, to_all = (me.mac, you.mac), (me.mac, EVERYBODY)
    return {
        "IPv4": ipv4(to_you, me.ipv4, you.ipv4, (9, 9), b"hello"),
        "ARP question": arp(me.mac, 1, me.mac, me.ipv4, you.ipv4),
        "ARP answer": arp(me.mac, 2, me.mac, me.ipv4, you.ipv4),
        "QEMU's announcement": frames.ethernet(me.mac, EVERYBODY, 0x8035, b"announced"),
        "ARP probe of its own address": arp(me.mac, 1, me.mac, NOBODY4, me.ipv4),
        "DHCP discovery": ipv4(to_all, NOBODY4, BROADCAST4, (68, 67), bootp(1, me.mac)),
        "DHCP renewal by broadcast": ipv4(to_all, me.ipv4, BROADCAST4, (68, 67), bootp(1, me.mac)),
        "IPv6": udp6(to_you, me.ipv6, you.ipv6, (9, 9), b"hello"),
        "IPv6 from link-local": udp6(to_you, me.link, you.link, (9, 9), b"hello"),
        "DHCPv6 solicitation": udp6(to_all, me.link, SERVERS6, (546, 547), b"\1"),
        "neighbour solicitation": icmp6(to_all, me.link, ALL_NODES, neighbour(135, you.ipv6, me.mac)),
        "neighbour advertisement": icmp6(to_you, me.ipv6, you.ipv6, neighbour(136, me.ipv6, me.mac)),
        "duplicate address detection": icmp6(to_all, NOBODY6, ALL_NODES, neighbour(135, me.ipv6, me.mac)),
        "its link-local address detected": icmp6(to_all, NOBODY6, ALL_NODES, neighbour(135, me.link, me.mac)),
        "router solicitation": icmp6(to_all, NOBODY6, ROUTERS6, frames.other(133)),
        "multicast listener report": icmp6(to_all, NOBODY6, ALL_NODES, frames.other(143), "hop-by-hop"),
    }


def hostile(me: Identity, you: Identity, gateway: Identity) -> dict[str, bytes]:
    """What it must not."""
    to_you, to_all = (me.mac, you.mac), (me.mac, EVERYBODY)
    advertisement, redirect = frames.other(134), frames.other(137)
    lie = arp(me.mac, 2, me.mac, you.ipv4, gateway.ipv4)
    return {
        "MAC of another": ipv4((you.mac, EVERYBODY), me.ipv4, you.ipv4, (9, 9), b"1"),
        "MAC of nobody": ipv4((STRANGER, EVERYBODY), me.ipv4, you.ipv4, (9, 9), b"2"),
        "MAC of the gateway": arp(gateway.mac, 1, me.mac, me.ipv4, you.ipv4),
        "IPv4 of another": ipv4(to_all, you.ipv4, you.ipv4, (9, 9), b"3"),
        "IPv4 of nobody": ipv4(to_you, IPv4Address("10.220.0.200"), you.ipv4, (9, 9), b"4"),
        "IPv4 of elsewhere": ipv4(to_you, IPv4Address("192.0.2.1"), you.ipv4, (9, 9), b"5"),
        "no IPv4": ipv4(to_you, NOBODY4, you.ipv4, (9, 9), b"6"),
        "ARP for another": arp(me.mac, 1, me.mac, you.ipv4, you.ipv4),
        "ARP answer for another": lie,
        "ARP answer for the gateway": arp(me.mac, 2, me.mac, gateway.ipv4, you.ipv4),
        "MAC of another inside ARP": arp(me.mac, 2, you.mac, me.ipv4, gateway.ipv4),
        "ARP probe of another's address": arp(me.mac, 1, me.mac, NOBODY4, you.ipv4),
        "ARP of another hardware": arp(me.mac, 2, me.mac, you.ipv4, you.ipv4, kind=6),
        "RARP": arp(me.mac, 4, me.mac, me.ipv4, you.ipv4),
        "DHCP offer": ipv4(to_all, me.ipv4, BROADCAST4, (67, 68), bootp(2, you.mac)),
        "DHCP offer from another port": ipv4(to_all, me.ipv4, BROADCAST4, (6767, 68), bootp(2, you.mac)),
        "DHCP for another": ipv4(to_all, NOBODY4, BROADCAST4, (68, 67), bootp(1, you.mac)),
        "DHCP for another from its own address": ipv4(
            to_all, me.ipv4, BROADCAST4, (68, 67), bootp(1, you.mac)
        ),
        "IPv6 of another": udp6(to_you, you.ipv6, you.ipv6, (9, 9), b"1"),
        "IPv6 of nobody": udp6(to_you, me.ipv6 + 1, you.ipv6, (9, 9), b"2"),
        "link-local of another": udp6(to_you, you.link, you.ipv6, (9, 9), b"3"),
        "link-local of nobody": udp6(to_you, IPv6Address("fe80::1"), you.ipv6, (9, 9), b"4"),
        "no IPv6": udp6(to_you, NOBODY6, you.ipv6, (9, 9), b"5"),
        "advertisement of another": icmp6(to_you, me.ipv6, you.ipv6, neighbour(136, you.ipv6, me.mac)),
        "advertisement of the gateway": icmp6(
            to_all, me.link, ALL_NODES, neighbour(136, gateway.ipv6, me.mac)
        ),
        "advertisement of the gateway, hidden": icmp6(
            to_all, me.link, ALL_NODES, neighbour(136, gateway.ipv6, me.mac), "hop-by-hop"
        ),
        "detection of another's address": icmp6(to_all, NOBODY6, ALL_NODES, neighbour(135, you.ipv6, me.mac)),
        "router advertisement": icmp6(to_all, me.link, ALL_NODES, advertisement),
        "router advertisement, hidden": icmp6(to_all, me.link, ALL_NODES, advertisement, "hop-by-hop"),
        "router advertisement, in pieces": icmp6(to_all, me.link, ALL_NODES, advertisement, "fragment"),
        "redirect": icmp6(to_you, me.link, you.link, redirect),
        "DHCPv6 answer": udp6(to_you, me.link, you.link, (547, 546), b"\7"),
        "DHCPv6 answer from another port": udp6(to_you, me.link, you.link, (5470, 546), b"\7"),
        "tagged": frames.tagged(lie, 7),
        "tagged with priority alone": frames.tagged(lie, 0),
        "tagged twice": frames.tagged(lie, 7, 8),
        "neither ARP nor IP": frames.ethernet(me.mac, EVERYBODY, 0x88B5, b"?"),
        "IEEE 802.2": frames.ethernet(me.mac, "01:00:0c:cc:cc:cc", 32, b"\xaa\xaa\3"),
    }


def heard(guest: Guest, tap: str, sent: dict[str, bytes], last: bytes) -> set[str]:
    """Which of the frames that the guest sends reach another one's tap; `last` is one that does."""
    with Tap(tap) as listener:
        program = [sys.executable, frames.__file__]
        subprocess.run(
            ["ip", "netns", "exec", guest.name, *program],
            input=frames.lines([*sent.values(), last]), check=True, text=True, timeout=30,
        )  # fmt: skip
        seen = listener.until(last)
    # the kernel takes the outer tag out of what it shows
    return {what for what, frame in sent.items() if seen & {frame, frame[:12] + frame[16:]}}


@pytest.fixture
def trio(
    connection: libvirt.virConnect, public: NetworkSpec
) -> Iterator[tuple[Identity, Identity, Identity]]:
    """Two with reservations on the public network, and its gateway."""
    me, you = identity(public, 10), identity(public, 11)
    for one in (me, you):
        assign(connection, public.name, one.reservation)
    mac = Path(f"/sys/class/net/{public.bridge}/address").read_text().strip()
    assert public.ipv4
    assert public.ipv6
    yield me, you, Identity(mac, public.ipv4.ip, public.ipv6.ip)
    for one in (me, you):
        release(connection, public.name, one.mac)


def test_only_what_is_honest_is_heard(
    connection: libvirt.virConnect,
    public: NetworkSpec,
    private: NetworkSpec,
    trio: tuple[Identity, Identity, Identity],
    machine: Machine,
) -> None:
    me, you, gateway = trio
    last = ipv4((me.mac, you.mac), me.ipv4, you.ipv4, (9, 9), b"the end")
    good, bad = honest(me, you), hostile(me, you, gateway)
    assert len({*good.values(), *bad.values()}) == len(good) + len(bad)

    guest, _ = machine(public, me.mac), machine(public, you.mac)
    assert heard(guest, tap_of(you.mac), good, last) == set(good)
    assert heard(guest, tap_of(you.mac), bad, last) == set()
    # nor does the host
    assert heard(guest, public.bridge, bad, arp(me.mac, 1, me.mac, me.ipv4, gateway.ipv4)) == set()
    # the bridge still knows where everybody is
    known = subprocess.run(
        ["bridge", "fdb", "show", "br", public.bridge], capture_output=True, text=True, check=True
    )
    assert not [line for line in known.stdout.splitlines() if STRANGER in line]
    assert not [line for line in known.stdout.splitlines() if you.mac in line and tap_of(me.mac) in line]

    # on a private network each of these frames is heard: it is the filter that made the difference. They are
    # sent to everybody, because the bridge there believes them and would lead those to the victim back
    mine, yours = "52:54:00:88:01:10", "52:54:00:88:01:11"
    for mac, number in ((mine, 10), (yours, 11)):
        assert private.ipv4
        assign(connection, private.name, Reservation(mac, private.ipv4.network[number]))
    guest, _ = machine(private, mine), machine(private, yours)
    free = {what: frames.raw(EVERYBODY) + frame[6:] for what, frame in (good | bad).items()}
    last = frames.ethernet(mine, EVERYBODY, 0x88B6, b"")
    assert heard(guest, tap_of(yours), free, last) == set(free)


def test_a_guest_that_changes_who_it_is_gets_nowhere(
    public: NetworkSpec, trio: tuple[Identity, Identity, Identity], machine: Machine
) -> None:
    me, you, gateway = trio
    guest, victim = machine(public, me.mac), machine(public, you.mac)
    for one, who in ((guest, me), (victim, you)):
        assert one.dhcp()[0] == str(who.ipv4)
        for address in (f"{who.ipv4}/24", f"{who.ipv6}/64"):
            one.run("ip", "address", "replace", address, "dev", "eth0")
        assert answers(who.ipv4)
        assert answers(who.ipv6)

    def pings(address: IPv4Address | IPv6Address) -> bool:
        command = ["busybox", "ping", "-c", "2", "-W", "1", "-A", str(address)]
        done = subprocess.run(["ip", "netns", "exec", guest.name, *command], capture_output=True, check=False)
        return done.returncode == 0

    assert pings(you.ipv4)
    assert pings(gateway.ipv6)
    # the victim's addresses beside its own
    guest.run("ip", "address", "add", f"{you.ipv4}/32", "dev", "eth0")
    guest.run("ip", "-6", "address", "add", f"{you.ipv6}/128", "dev", "eth0", "nodad")
    guest.run("busybox", "arping", "-U", "-c", "1", "-I", "eth0", str(you.ipv4))
    for host_table in ("4", "6"):
        subprocess.run(["ip", f"-{host_table}", "neighbour", "flush", "dev", public.bridge], check=True)
    for theirs in (you.ipv4, you.ipv6):
        assert answers(theirs)
        known = subprocess.run(
            ["ip", "neighbour", "show", str(theirs)], capture_output=True, text=True, check=True
        )
        assert you.mac in known.stdout
    # another address of its own choice instead
    guest.run("ip", "address", "flush", "dev", "eth0", "scope", "global")
    guest.run("ip", "address", "add", "10.220.0.77/24", "dev", "eth0")
    assert not pings(gateway.ipv4)
    # and the victim's MAC with its address
    guest.run("ip", "address", "flush", "dev", "eth0", "scope", "global")
    guest.run("ip", "link", "set", "eth0", "address", you.mac)
    guest.run("ip", "address", "add", f"{you.ipv4}/24", "dev", "eth0")
    assert not pings(gateway.ipv4)
    assert guest.dhcp() == []
    assert answers(you.ipv4)
    # itself again
    guest.run("ip", "address", "flush", "dev", "eth0", "scope", "global")
    guest.run("ip", "link", "set", "eth0", "address", me.mac)
    assert guest.dhcp()[0] == str(me.ipv4)
    guest.run("ip", "address", "add", f"{me.ipv4}/24", "dev", "eth0")
    assert pings(gateway.ipv4)
    assert guest.dhcp6("00030001" + me.mac.replace(":", "")) == [str(me.ipv6)]


# what a hostile owner runs: as the victim by its address, then by its MAC too; the console tells how it went
HOSTILE = """
tries() { ping -c 2 -W 1 $2 {gateway} >/dev/null 2>&1; echo "tried $1: $?" > /dev/console; }
tries itself
ip addr add {victim}/32 dev eth0
tries address "-I {victim}"
ip link set eth0 down
ip link set eth0 address {mac}
ip link set eth0 up
tries mac "-I {victim}"
"""


@pytest.mark.guest
def test_a_real_guest_that_changes_who_it_is_gets_nowhere(
    connection: libvirt.virConnect,
    public: NetworkSpec,
    trio: tuple[Identity, Identity, Identity],
    machine: Machine,
    identity: SshIdentity,
    tmp_path: Path,
) -> None:
    me, you, gateway = trio
    victim = machine(public, you.mac)
    victim.run("ip", "address", "add", f"{you.ipv4}/24", "dev", "eth0")
    spec = tiny("test-hostile", InterfaceSpec("ua-iface-1", me.mac, public.name), identity, tmp_path)
    power.define(connection, spec)
    try:
        power.start(connection, spec.uuid)
        assert bridge.taps(power.lookup(connection, spec.uuid).XMLDesc()) == {me.mac: tap_of(me.mac)}
        guest = RealGuest(str(me.ipv4), identity).ready()
        script = HOSTILE.replace("{gateway}", str(gateway.ipv4)).replace("{victim}", str(you.ipv4))
        script = script.replace("{mac}", you.mac).replace("{own}", me.mac)
        guest.run(f"sh -c {shlex.quote(script)} </dev/null >/dev/null 2>&1 &")
        asker = Asker(you.ipv4)
        console = Console(tmp_path / "console.log")
        console.says("tried mac", seconds=30)
        asker.end()
        assert re.findall(r"tried (\w+: \d)", console.text()) == ["itself: 0", "address: 1", "mac: 1"]
        # nobody took the victim's traffic meanwhile
        gaps = [after - before for before, after in pairwise(asker.answers)]
        assert max(gaps) < 1
    finally:
        power.undefine(connection, spec.uuid)


def mine(mac: str) -> set[str]:
    """What the filter lets a MAC send under, link-local addresses apart."""
    found = {
        address
        for held in nft.elements("bridge", ["ipv4", "ipv6", "shared4", "shared6"], "test").values()
        for holder, address in held
        if holder == mac and not address.startswith("fe80:")
    }
    bound = [tap_of(mac)] in nft.elements("bridge", ["taps"], "test")["taps"]
    assert bound == bool(found)
    return found


def test_the_filter_follows_the_reservations(
    connection: libvirt.virConnect, public: NetworkSpec, other: NetworkSpec, private: NetworkSpec
) -> None:
    here, there = identity(public, 20), identity(other, 20)
    both = {str(here.ipv4), str(here.ipv6)}, {str(there.ipv4), str(there.ipv6)}
    assign(connection, public.name, here.reservation)
    assign(connection, public.name, here.reservation)
    assert mine(here.mac) == both[0]
    # a move to another datacenter: both until it is off the first
    assign(connection, other.name, there.reservation)
    assert mine(here.mac) == both[0] | both[1]
    release(connection, public.name, here.mac)
    release(connection, public.name, here.mac)
    assert mine(here.mac) == both[1]
    # other addresses instead
    assign(connection, other.name, Reservation(here.mac, IPv4Address("10.221.0.99"), there.ipv6))
    assert mine(here.mac) == {"10.221.0.99", str(there.ipv6)}
    assign(connection, other.name, Reservation(here.mac, IPv4Address("10.221.0.99")))
    assert mine(here.mac) == {"10.221.0.99"}
    # a move to a private network: held until it is off the other one
    assign(connection, private.name, Reservation(here.mac, IPv4Address("10.222.0.20")))
    assert mine(here.mac) == {"10.221.0.99"}
    release(connection, other.name, here.mac)
    assert mine(here.mac) == set()
    release(connection, private.name, here.mac)
    everything = ["macs", "ipv4", "ipv6", "targets", "clients", "shared4", "shared6"]
    assert here.mac not in str(nft.elements("bridge", everything, "test"))


def test_interfaces_of_one_guest_share_their_addresses(
    connection: libvirt.virConnect, public: NetworkSpec
) -> None:
    one, two, three = (identity(public, number) for number in (40, 41, 42))
    for who in (one, two, three):
        assign(connection, public.name, who.reservation)
    own = {who: {str(who.ipv4), str(who.ipv6)} for who in (one, two, three)}
    share(connection, [one.mac, two.mac])
    share(connection, [one.mac, two.mac])
    assert mine(one.mac) == mine(two.mac) == own[one] | own[two]
    assert mine(three.mac) == own[three]
    # another address
    assign(connection, public.name, Reservation(two.mac, IPv4Address("10.220.0.77")))
    assert mine(one.mac) == own[one]
    share(connection, [one.mac, two.mac])
    assert mine(one.mac) == own[one] | {"10.220.0.77"}
    # the second goes to another guest
    share(connection, [one.mac])
    assert mine(one.mac) == own[one]
    assert mine(two.mac) == {"10.220.0.77"}
    share(connection, [two.mac, three.mac])
    assert mine(three.mac) == own[three] | {"10.220.0.77"}
    release(connection, public.name, two.mac)
    assert mine(three.mac) == own[three]
    for who in (one, three):
        release(connection, public.name, who.mac)
    assert not any(nft.elements("bridge", ["shared4", "shared6"], "test").values())


def test_it_is_back_after_the_host_has_started(connection: libvirt.virConnect, public: NetworkSpec) -> None:
    one = identity(public, 30)
    assign(connection, public.name, one.reservation)
    subprocess.run(["nft", "delete", "table", "bridge", "hypervisor"], check=True)
    ensure(connection, public)
    assert mine(one.mac) == {str(one.ipv4), str(one.ipv6)}
    release(connection, public.name, one.mac)


def test_a_network_takes_its_entries_with_it(connection: libvirt.virConnect, name: str) -> None:
    spec = NetworkSpec(
        name, f"iso{name[-5:]}", IPv4Interface("10.223.0.1/24"), IPv6Interface("fd5e:d33::1/64")
    )
    ensure(connection, spec, [4000])
    one = identity(spec, 9)
    assign(connection, name, one.reservation)
    assert [spec.bridge, "4000"] in nft.elements("inet", ["open_ports"], "test")["open_ports"]
    remove(connection, name)
    assert mine(one.mac) == set()
    assert spec.bridge not in str(nft.elements("inet", ["public", "open_ports"], "test"))


def test_a_host_without_a_filter_serves_its_guests_and_says_so(
    connection: libvirt.virConnect,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = NetworkSpec(
        name, f"iso{name[-5:]}", IPv4Interface("10.223.0.1/24"), IPv6Interface("fd5e:d33::1/64")
    )
    monkeypatch.setattr(nft, "_NFT", "nft-that-is-not-there")
    ensure(connection, spec)
    one = identity(spec, 9)
    assign(connection, name, one.reservation)
    assert reservations(connection, name) == [one.reservation]
    assert f"guests of {name} can send under the addresses of others" in caplog.text
    assert f"guests of {name} reach all ports of this host" in caplog.text
    assert "install nftables" in caplog.text
    release(connection, name, one.mac)
    # what was changed meanwhile is made good at the next start
    assign(connection, name, one.reservation)
    monkeypatch.undo()
    ensure(connection, replace(spec))
    assert mine(one.mac) == {str(one.ipv4), str(one.ipv6)}
