"""Private networks: what their guests get, and what they reach."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from pathlib import Path

import libvirt
import pytest

from hypervisor.network import Mode, NetworkSpec, Outcome, Reservation, assign, bridge, ensure, parse, remove
from hypervisor.network import nft as nft_module
from hypervisor.network.errors import InvalidAddress, NetworkInUse, NoFirewall
from tests.network.conftest import Plug
from tests.network.guest import Guest

pytestmark = pytest.mark.lab

MACS = [f"52:54:00:77:00:{number:02x}" for number in range(8)]
REBIND = Path(__file__).with_name("rebind.py")
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()"


def private(name: str, subnet: str, router: str | None = None) -> NetworkSpec:
    gateway = None if router is None else IPv4Address(router)
    return NetworkSpec(name, f"hv-{name[-6:]}", IPv4Interface(subnet), mode=Mode.PRIVATE, router=gateway)


def closed() -> str:
    """The bridges to which the host is closed, as nft lists them."""
    command = ["nft", "list", "set", "inet", "hypervisor", "private"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def networks(connection: libvirt.virConnect) -> Iterator[dict[str, NetworkSpec]]:
    """Two private networks with the same subnet, a third with another, and a public one."""
    made = {
        spec.name: spec
        for spec in (
            private("one", "10.216.0.0/24"),
            private("two", "10.216.0.0/24", "10.216.0.1"),
            private("three", "10.218.0.0/24"),
            NetworkSpec("nat", "hv-nat", IPv4Interface("10.217.0.1/24"), IPv6Interface("fd5e:d21::1/64")),
        )
    }
    for spec in made.values():
        begin = time.monotonic()
        ensure(connection, spec)
        print(f"ensure {spec.name}: {time.monotonic() - begin:.3f} s")
    yield made
    for name in made:
        begin = time.monotonic()
        remove(connection, name, force=True)
        print(f"remove {name}: {time.monotonic() - begin:.3f} s")


def test_ensure_and_remove(connection: libvirt.virConnect, name: str, plug: Plug) -> None:
    spec = replace(private(name, "10.219.0.0/24", "10.219.0.254"), bridge="hvlan7")
    assert ensure(connection, spec) is Outcome.STARTED
    assert ensure(connection, spec) is Outcome.UNCHANGED
    network = connection.networkLookupByName(name)
    assert parse(network.XMLDesc()) == parse(network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)) == spec
    assert "hvlan7" not in bridge.addresses()  # none but a link-local one
    assert '"hvlan7"' in closed()
    changed = replace(spec, router=None)
    assert ensure(connection, changed) is Outcome.RESTARTED
    plug(spec.bridge, MACS[7])
    with pytest.raises(NetworkInUse, match="detach them"):
        remove(connection, name)
    assert bridge.ports("hvlan7")
    remove(connection, name, force=True)
    remove(connection, name)
    assert not bridge.exists("hvlan7")
    assert '"hvlan7"' not in closed()


def test_addresses(connection: libvirt.virConnect, networks: dict[str, NetworkSpec], plug: Plug) -> None:
    expected = {"one": "-", "two": "10.216.0.1"}
    # the same address in both: they do not know each other. In the second it is the router's, a guest
    for number, (name, router) in enumerate(expected.items()):
        assign(connection, name, Reservation(MACS[number], IPv4Address("10.216.0.1"), hostname="web"))
        guest = plug(networks[name].bridge, MACS[number])
        assert guest.dhcp() == ["10.216.0.1", "24", "web", router, "600"]
        assert guest.resolvers == []
    with pytest.raises(InvalidAddress):
        assign(connection, "one", Reservation(MACS[5], IPv4Address("10.218.0.9")))


def test_a_lease_is_renewed(
    connection: libvirt.virConnect, networks: dict[str, NetworkSpec], plug: Plug
) -> None:
    assign(connection, "three", Reservation(MACS[2], IPv4Address("10.218.0.9")))
    guest = plug(networks["three"].bridge, MACS[2])
    assert guest.dhcp()[0] == "10.218.0.9"
    guest.run("ip", "address", "add", "10.218.0.9/24", "dev", "eth0")
    settings = [f"/proc/sys/net/ipv4/conf/{name}/rp_filter" for name in ("all", "hv-three")]
    before = [Path(setting).read_text() for setting in settings]
    try:
        for value in "01":  # a host that looks where a packet comes from too, and strictly
            for setting in settings:
                Path(setting).write_text(value)
            renewed = guest.run(sys.executable, str(REBIND), "eth0", MACS[2], "10.218.0.9")
            assert renewed.strip() == "10.218.0.9"
    finally:
        for setting, value in zip(settings, before, strict=True):
            Path(setting).write_text(value)


@pytest.fixture
def server() -> Iterator[int]:
    """The port of something on all addresses of the host, as a service may be."""
    with socket.create_server(("", 0)) as listener:
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket) -> None:
    try:
        while True:
            listener.accept()[0].close()
    except OSError:
        return


def attempt(guest: Guest, *command: str) -> bool:
    """Whether the command ends well in the guest."""
    whole = ["ip", "netns", "exec", guest.name, *command]
    return subprocess.run(whole, check=False, capture_output=True).returncode == 0


def ping(guest: Guest, address: str) -> bool:
    """Whether an echo comes back, of three."""
    family = "-6" if ":" in address else "-4"
    return attempt(guest, "busybox", "ping", family, "-c", "2", "-W", "1", "-A", address)


def connects(guest: Guest, address: str, port: int) -> bool:
    return attempt(guest, sys.executable, "-c", CONNECT, address, str(port))


def test_what_guests_reach(networks: dict[str, NetworkSpec], plug: Plug, server: int) -> None:
    here, there, other, public = (
        plug(networks[name].bridge, MACS[3 + number])
        for number, name in enumerate(("one", "one", "three", "nat"))
    )
    here.run("ip", "address", "add", "10.216.0.20/24", "dev", "eth0")
    there.run("ip", "address", "add", "10.216.0.21/24", "dev", "eth0")
    other.run("ip", "address", "add", "10.218.0.20/24", "dev", "eth0")
    for address in ("10.217.0.20/24", "fd5e:d21::20/64"):
        public.run("ip", "address", "add", address, "dev", "eth0")
    # guests who try hard: the host as their router, in IPv4 and in IPv6, though it is none
    for guest, name in ((here, "one"), (other, "three")):
        mac = Path(f"/sys/class/net/{networks[name].bridge}/address").read_text().strip()
        for gateway in ("169.254.0.1", "fe80::1"):
            guest.run("ip", "neighbour", "add", gateway, "lladdr", mac, "dev", "eth0")
            guest.run("ip", "route", "add", "default", "via", gateway, "dev", "eth0", "onlink")
        guest.run("ip", "address", "add", f"fd5e:d22::{mac[-2:]}/64", "dev", "eth0")
    public.run("ip", "route", "add", "default", "via", "10.217.0.1")
    public.run("ip", "-6", "route", "replace", "default", "via", "fd5e:d21::1")
    # and a host that would know the way
    for subnet, name in (("10.216.0.0/24", "one"), ("10.218.0.0/24", "three")):
        subprocess.run(["ip", "route", "add", subnet, "dev", networks[name].bridge], check=True)
    reached = {
        "its own network": lambda: ping(here, "10.216.0.21"),
        "its own network by IPv6": lambda: ping(here, link_local(there) + "%eth0"),
        "public to host": lambda: ping(public, "10.217.0.1"),
        "public to public by IPv6": lambda: ping(public, "fd5e:d21::1"),
    }
    not_reached = {
        "host": lambda: ping(here, "169.254.0.1"),
        "port of the host": lambda: connects(here, "169.254.0.1", server),
        "port of the host from public": lambda: connects(public, "10.217.0.1", server),
        "port of another bridge of the host": lambda: connects(here, "10.217.0.1", server),
        "another bridge of the host": lambda: ping(here, "10.217.0.1"),
        "another bridge of the host by IPv6": lambda: ping(here, "fd5e:d21::1"),
        "DNS": lambda: connects(here, "169.254.0.1", 53),
        "private to private": lambda: ping(here, "10.218.0.20"),
        "private to private, the other way": lambda: ping(other, "10.216.0.20"),
        "private to public": lambda: ping(here, "10.217.0.20"),
        "private to public by IPv6": lambda: ping(here, "fd5e:d21::20"),
        "private to link-local of another": lambda: ping(here, link_local(other) + "%eth0"),
        "private to link-local of public": lambda: ping(here, link_local(public) + "%eth0"),
        "public to private": lambda: ping(public, "10.216.0.20"),
        "everybody on a link without others": lambda: ping(other, "ff02::1%eth0"),
    }
    with ThreadPoolExecutor(len(not_reached)) as together:
        good = {what: together.submit(try_it) for what, try_it in reached.items()}
        bad = {what: together.submit(try_it) for what, try_it in not_reached.items()}
    assert [what for what, done in good.items() if not done.result()] == []
    assert [what for what, done in bad.items() if done.result()] == []
    # the host itself may speak to its guests
    assert (
        subprocess.run(["busybox", "ping", "-c", "1", "-W", "1", "10.216.0.20"], check=False).returncode == 0
    )


def link_local(guest: Guest) -> str:
    return guest.run("ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link").split()[3][:-3]


def test_without_nft(connection: libvirt.virConnect, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft_module, "_NFT", "nft-that-is-not-there")
    with pytest.raises(NoFirewall, match="install nftables"):
        ensure(connection, private(name, "10.219.0.0/24"))
    monkeypatch.undo()
    assert not connection.networkLookupByName(name).isActive()
    assert ensure(connection, private(name, "10.219.0.0/24")) is Outcome.STARTED
