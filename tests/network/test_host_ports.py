"""What guests of a datacenter's network reach of the host, and through it."""

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from pathlib import Path

import libvirt
import pytest

from hypervisor.network import NetworkSpec, Reservation, assign, ensure, remove
from tests.network.conftest import Plug
from tests.network.guest import Guest
from tests.service.waiting import until

pytestmark = pytest.mark.lab

OPEN, SHUT = 5011, 5012
CONNECT = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as talk:
        talk.shutdown(socket.SHUT_WR)
        print("answered by", talk.recv(99).decode())
except OSError as error:
    print(type(error).__name__)
"""
SERVE = """
import socket
with socket.create_server(("192.0.2.2", 80)) as listener:
    print("ready", flush=True)
    while True:
        talk, client = listener.accept()
        with talk:
            talk.sendall(client[0].encode())
"""


@pytest.fixture(scope="module")
def spec(connection: libvirt.virConnect) -> Iterator[NetworkSpec]:
    """A network as a datacenter has it, with one port of the host."""
    spec = NetworkSpec(
        "ports", "hv-ports", IPv4Interface("10.224.0.1/24"), IPv6Interface("fd5e:d34::1/64"), domain="dc.test"
    )
    ensure(connection, spec, [OPEN, 123])
    yield spec
    remove(connection, spec.name, force=True)


@pytest.fixture(scope="module")
def servers() -> Iterator[None]:
    """Something on both ports, on all addresses of the host, that says which it is."""
    listeners = [
        socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        for port in (OPEN, SHUT)
    ]

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                talk = listener.accept()[0]
            except OSError:
                return
            with talk:
                talk.sendall(str(listener.getsockname()[1]).encode())

    for listener in listeners:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
    yield
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def guest(spec: NetworkSpec, plug: Plug) -> Guest:
    guest = plug(spec.bridge, "52:54:00:89:00:01")
    for address in ("10.224.0.20/24", "fd5e:d34::20/64"):
        guest.run("ip", "address", "add", address, "dev", "eth0")
    guest.run("ip", "route", "add", "default", "via", "10.224.0.1")
    return guest


def attempt(guest: Guest, address: str, port: int) -> str:
    return guest.run(sys.executable, "-c", CONNECT, address, str(port)).strip()


@pytest.mark.usefixtures("servers")
def test_the_hosts_ports(
    connection: libvirt.virConnect, spec: NetworkSpec, network: NetworkSpec, guest: Guest
) -> None:
    assert network.ipv4
    for address in ("10.224.0.1", "fd5e:d34::1", str(network.ipv4.ip)):
        assert attempt(guest, address, SHUT) == "ConnectionRefusedError"
        assert attempt(guest, address, OPEN) == f"answered by {OPEN}"
    # other ports from the next start of the service on
    ensure(connection, spec, [SHUT])
    assert attempt(guest, "10.224.0.1", OPEN) == "ConnectionRefusedError"
    assert attempt(guest, "10.224.0.1", SHUT) == f"answered by {SHUT}"
    ensure(connection, spec)
    assert attempt(guest, "10.224.0.1", SHUT) == "ConnectionRefusedError"


def test_what_stays_open(connection: libvirt.virConnect, spec: NetworkSpec, guest: Guest) -> None:
    mac = "52:54:00:89:00:01"
    assign(connection, spec.name, Reservation(mac, IPv4Address("10.224.0.20"), hostname="web"))
    assert guest.dhcp()[0] == "10.224.0.20"
    for address in ("10.224.0.1", "fd5e:d34::1"):
        guest.run("busybox", "ping", "-c", "1", "-W", "2", address)
        # dnsmasq ends a connection on which nothing is asked
        assert attempt(guest, address, 53) == "answered by"
    assert "10.224.0.20" in guest.run("busybox", "nslookup", "web.dc.test", "10.224.0.1")

    # the host reaches its guests on any port
    def listens() -> socket.socket | None:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("10.224.0.20", 7), 1)
        return None

    with subprocess.Popen(
        ["ip", "netns", "exec", guest.name, "busybox", "nc", "-l", "-p", "7"], stdout=subprocess.PIPE
    ) as listener:
        talk = until(listens, 5, "the guest listens")
        assert talk
        with talk:
            talk.sendall(b"hello")
        assert listener.communicate(timeout=10)[0] == b"hello"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[str]:
    """A server beyond the host, which says under which address it sees its clients; the host's address."""
    beyond = Guest("beyond", tmp_path)
    subprocess.run(
        ["ip", "link", "add", "out0", "type", "veth", "peer", "name", "eth0", "netns", "beyond"], check=True
    )
    subprocess.run(["ip", "address", "add", "192.0.2.1/24", "dev", "out0"], check=True)
    subprocess.run(["ip", "link", "set", "out0", "up"], check=True)
    beyond.run("ip", "address", "add", "192.0.2.2/24", "dev", "eth0")
    beyond.run("ip", "link", "set", "eth0", "up")
    with subprocess.Popen(
        ["ip", "netns", "exec", "beyond", sys.executable, "-c", SERVE], stdout=subprocess.PIPE
    ) as server:
        assert server.stdout
        assert server.stdout.readline() == b"ready\n"
        yield "192.0.2.1"
        server.kill()
    beyond.remove()


@pytest.mark.usefixtures("spec")
def test_beyond_the_host(guest: Guest, outside: str) -> None:
    assert attempt(guest, "192.0.2.2", 80) == f"answered by {outside}"
    assert attempt(guest, outside, SHUT) == "ConnectionRefusedError"
