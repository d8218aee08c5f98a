"""A DHCP lease, asked for over a veth pair as a machine would, and handed back (RFC 2131)."""

import contextlib
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import libvirt
from pyroute2 import IPRoute

from hypervisor import network
from hypervisor.errors import HypervisorError
from hypervisor.network import NetworkSpec, Reservation

# one name for all times: what a killed one left is found by it
_NEAR, _FAR = "hvdoctor0", "hvdoctor1"
_MAC = "02:68:76:64:6f:63"  # locally administered; libvirt and QEMU choose others
_RAW = bytes.fromhex(_MAC.replace(":", ""))
_PATIENCE, _ATTEMPTS = 1.0, 3  # seconds for one answer

_DISCOVER, _OFFER, _REQUEST, _ACK, _RELEASE = 1, 2, 3, 5, 7
_COOKIE = b"\x63\x82\x53\x63"
_TYPE, _SERVER, _WANTED = 53, 54, 50


class NoLease(HypervisorError):
    """The DHCP server did not answer, or not with the address."""


def obtain(connection: libvirt.virConnect, spec: NetworkSpec) -> tuple[IPv4Address, float]:
    """Reserve the subnet's last address for a MAC of its own, ask for it, hand it back.

    Returns the address and how long it took, in seconds. Needs root. Raises `NoLease`, `HypervisorError` when
    there is nothing to ask for, `OSError`.
    """
    if spec.ipv4 is None:
        raise HypervisorError(f"network {spec.name} has no IPv4")
    network.release(connection, spec.name, _MAC)
    wanted = _free(connection, spec)
    network.assign(connection, spec.name, Reservation(_MAC, wanted))
    try:
        with _plugged(spec.bridge) as wire:
            begun = time.perf_counter()
            server = _converse(wire, _DISCOVER, _OFFER, wanted, None)
            _converse(wire, _REQUEST, _ACK, wanted, server)
            elapsed = time.perf_counter() - begun
            _send(wire, _RELEASE, secrets.randbits(32), wanted, server)
    finally:
        network.release(connection, spec.name, _MAC)
    return wanted, elapsed


def _free(connection: libvirt.virConnect, spec: NetworkSpec) -> IPv4Address:
    assert spec.ipv4 is not None  # noqa: S101 - the caller looked
    taken = {entry.ipv4 for entry in network.reservations(connection, spec.name)} | {spec.ipv4.ip}
    subnet = spec.ipv4.network
    # from the end: machines get theirs from the beginning
    for number in range(int(subnet[-1]) - 1, int(subnet[0]), -1):
        if IPv4Address(number) not in taken:
            return IPv4Address(number)
    raise HypervisorError(f"every address of {subnet} is reserved")


@contextmanager
def _plugged(bridge: str) -> Iterator[socket.socket]:
    """A socket on a cable whose other end is in the bridge."""
    with IPRoute() as kernel:
        _unplug(kernel)
        kernel.link("add", ifname=_NEAR, kind="veth", peer={"ifname": _FAR, "address": _MAC})
        try:
            near, far, master = (kernel.link_lookup(ifname=one)[0] for one in (_NEAR, _FAR, bridge))
            for one in (_NEAR, _FAR):
                # neither end is to take an address of its own from the router's advertisements
                with contextlib.suppress(OSError):
                    Path(f"/proc/sys/net/ipv6/conf/{one}/disable_ipv6").write_text("1\n")
            kernel.link("set", index=near, master=master, state="up")
            kernel.link("set", index=far, state="up")
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
                wire.bind((_FAR, 0x0800))
                yield wire
        finally:
            _unplug(kernel)


def _unplug(kernel: IPRoute) -> None:
    for number in kernel.link_lookup(ifname=_NEAR):
        kernel.link("del", index=number)


def _converse(
    wire: socket.socket, message: int, expected: int, wanted: IPv4Address, server: IPv4Address | None
) -> IPv4Address:
    """Send until the answer comes; returns the server that gave it. Raises `NoLease`."""
    for _ in range(_ATTEMPTS):
        exchange = secrets.randbits(32)
        _send(wire, message, exchange, wanted, server)
        deadline = time.monotonic() + _PATIENCE
        while (left := deadline - time.monotonic()) > 0:
            wire.settimeout(left)
            try:
                answer = _read(wire.recv(2048), exchange)
            except TimeoutError:
                break
            if answer is None:
                continue
            kind, address, giver = answer
            if kind != expected or address != wanted:
                raise NoLease(f"the DHCP server {giver} answered with {address} instead of {wanted}")
            return giver
    raise NoLease(
        f"no DHCP server answered within {_PATIENCE * _ATTEMPTS:.0f} seconds: machines get no address"
    )


def _send(
    wire: socket.socket, message: int, exchange: int, wanted: IPv4Address, server: IPv4Address | None
) -> None:
    held = wanted.packed if message == _RELEASE else bytes(4)
    # the broadcast bit: nothing here has the address that an answer would be sent to
    head = struct.pack("!BBBBIHH4s12s", 1, 1, 6, 0, exchange, 0, 0x8000, held, bytes(12))
    options = _option(_TYPE, bytes([message]))
    if message == _REQUEST:
        options += _option(_WANTED, wanted.packed)
    if server is not None:
        options += _option(_SERVER, server.packed)
    payload = head + _RAW + bytes(10 + 192) + _COOKIE + options + b"\xff"
    datagram = struct.pack("!HHHH", 68, 67, 8 + len(payload), 0) + payload
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 0, 0, 64, 17, 0, held, b"\xff" * 4)
    header = header[:10] + struct.pack("!H", _checksum(header)) + header[12:]
    wire.send(b"\xff" * 6 + _RAW + b"\x08\x00" + header + datagram)


def _option(code: int, value: bytes) -> bytes:
    return bytes([code, len(value)]) + value


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _read(frame: bytes, exchange: int) -> tuple[int, IPv4Address, IPv4Address] | None:
    """The message's type, the address that it gives and its server; None for what is no answer to us."""
    packet = frame[14:]
    if len(packet) < 20 or packet[9] != 17:
        return None
    datagram = packet[(packet[0] & 15) * 4 :]
    message = datagram[8:]
    if len(message) < 244 or datagram[2:4] != b"\x00\x44" or message[4:8] != exchange.to_bytes(4, "big"):
        return None
    options = dict(_options(message[240:]))
    if len(options.get(_TYPE, b"")) != 1 or len(options.get(_SERVER, b"")) != 4:
        return None
    return options[_TYPE][0], IPv4Address(message[16:20]), IPv4Address(options[_SERVER])


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 1 < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        yield data[at], data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
