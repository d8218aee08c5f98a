"""What a network is, and its XML."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.network import Mode, NetworkSpec, Reservation, parse, render
from hypervisor.network.errors import InvalidAddress, InvalidSpec
from hypervisor.network.reservation import SIZE, Freed, content, file_name, from_file_name

IPV4 = IPv4Interface("10.0.0.1/24")
IPV6 = IPv6Interface("fd00::1/64")

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
bridges = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,14}", fullmatch=True)
hostnames = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{1,5})?", fullmatch=True)
ipv4 = st.builds(
    lambda net, prefix: IPv4Interface((int(net) >> (32 - prefix) << (32 - prefix) | 1, prefix)),
    st.ip_addresses(v=4),
    st.integers(8, 30),
)
ipv6 = st.ip_addresses(v=6).map(lambda net: IPv6Interface((int(net) >> 64 << 64 | 1, 64)))
served = st.builds(
    NetworkSpec,
    name=names,
    bridge=bridges,
    ipv4=ipv4,
    ipv6=st.none() | ipv6,
    mode=st.sampled_from([Mode.NAT, Mode.ROUTED, Mode.ISOLATED]),
    domain=st.none() | hostnames,
    mtu=st.none() | st.integers(1280, 65535),
    slaac=st.booleans(),
    folder=st.from_regex(r"(/[A-Za-z0-9_.-]{1,8}){1,3}", fullmatch=True)
    .map(PurePosixPath)
    .filter(lambda path: path.name),
)
private = st.builds(
    NetworkSpec,
    name=names,
    bridge=bridges,
    ipv4=ipv4.filter(lambda subnet: subnet.network.prefixlen <= 24),
    mode=st.just(Mode.PRIVATE),
    mtu=st.none() | st.integers(1280, 65535),
).flatmap(
    lambda spec: (
        st.integers(1, 254).map(lambda last: replace(spec, router=spec.ipv4.ip + last))  # type: ignore[union-attr]
        | st.just(spec)
    )
)
uplinks = st.builds(NetworkSpec, name=names, bridge=bridges, mode=st.just(Mode.BRIDGE))


@given(served | private | uplinks | st.builds(NetworkSpec, name=names, bridge=bridges, ipv6=ipv6))
def test_parse_undoes_render(spec: NetworkSpec) -> None:
    assert parse(render(spec)) == spec


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a/b"},
        {"name": ""},
        {"bridge": "longer-than-15-x"},
        {"bridge": "b r"},
        {"ipv4": None, "ipv6": None},
        {"ipv4": IPv4Interface("10.0.0.1/31")},
        {"ipv4": IPv4Interface("10.0.0.0/24")},
        {"ipv4": IPv4Interface("10.0.0.255/24")},
        {"ipv6": IPv6Interface("fd00::1/48")},
        {"mode": Mode.BRIDGE},
        {"mtu": 500},
        {"domain": "a,b"},
        {"folder": PurePosixPath("/a,b")},
        {"router": IPv4Address("10.0.0.9")},
        {"mode": Mode.PRIVATE},
        {"mode": Mode.PRIVATE, "ipv6": None, "domain": "dc.test"},
        {"mode": Mode.PRIVATE, "ipv6": None, "ipv4": IPv4Interface("10.0.0.0/31")},
        {"mode": Mode.PRIVATE, "ipv6": None, "router": IPv4Address("10.0.1.9")},
        {"mode": Mode.PRIVATE, "ipv6": None, "router": IPv4Address("10.0.0.255")},
        {"folder": PurePosixPath("a")},
    ],
)
def test_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec):
        NetworkSpec(**{"name": "dc", "bridge": "br", "ipv4": IPV4, "ipv6": IPV6, **wrong})


def test_the_uuid_follows_from_the_name() -> None:
    assert NetworkSpec("a", "x", IPV4).uuid == NetworkSpec("a", "y", None, IPV6).uuid
    assert NetworkSpec("a", "x", IPV4).uuid != NetworkSpec("b", "x", IPV4).uuid


def test_another_kind_of_network() -> None:
    with pytest.raises(InvalidSpec, match="not made here"):
        parse("<network><name>pt</name><forward mode='hostdev'/></network>")


reservations = st.builds(
    Reservation,
    mac=st.binary(min_size=5, max_size=5).map(lambda tail: f"52:{tail.hex(':')}"),
    ipv4=st.none() | st.ip_addresses(v=4),
    ipv6=st.ip_addresses(v=6),
    hostname=st.none() | hostnames,
    label=st.none() | st.from_regex(r"[a-z0-9.]{1,24}", fullmatch=True),
)


freed = st.builds(
    Freed,
    mac=st.binary(min_size=5, max_size=5).map(lambda tail: f"52:{tail.hex(':')}"),
    ipv4=st.ip_addresses(v=4),
    when=st.integers(0, 2**40),
)


@given(reservations | freed)
def test_the_file_name_tells_what_it_is(entry: Reservation | Freed) -> None:
    assert from_file_name(file_name(entry)) == entry


def test_the_content() -> None:
    full = Reservation("52-54-00-AA-BB-CC", IPv4Address("10.0.0.5"), IPv6Address("fd00::5"), "web1")
    assert content(full).rstrip() == b"52:54:00:aa:bb:cc,10.0.0.5,[fd00::5],web1,600"
    only = Reservation("52:54:00:aa:bb:cc", ipv6=IPv6Address("fd00::5"))
    assert content(only).rstrip() == b"52:54:00:aa:bb:cc,[fd00::5],600"
    assert content(full, {"52:54:00:00:00:01"}).startswith(b"52:54:00:aa:bb:cc,52:54:00:00:00:01,10.0.0.5,")
    many = {f"52:54:00:00:00:{number:02x}" for number in range(200)}
    longest = Reservation("52:54:00:aa:bb:cc", full.ipv4, full.ipv6, ".".join(["a" * 38] * 4), "1." * 12)
    assert len(content(longest, many)) == SIZE
    assert len(file_name(longest)) < 255


@pytest.mark.parametrize(
    "name",
    [
        "",
        "other",
        "525400aabbcc___",
        "525400aabbcc_999.1.1.1__",
        "01005e000001_10.0.0.1__",
        "525400aabbcc_10.0.0.1___",
    ],
)
def test_other_files(name: str) -> None:
    assert from_file_name(name) is None


@pytest.mark.parametrize("hostname", ["a,b", "a b", "a\nb", "", "-a", "a" * 64])
def test_a_host_name_is_only_a_name(hostname: str) -> None:
    with pytest.raises(InvalidAddress):
        Reservation("52:54:00:aa:bb:cc", IPv4Address("10.0.0.5"), hostname=hostname)


@pytest.mark.parametrize("label", ["", "A", "a_b", "a/b", "a" * 25])
def test_a_label_is_part_of_the_file_name(label: str) -> None:
    with pytest.raises(InvalidAddress):
        Reservation("52:54:00:aa:bb:cc", IPv4Address("10.0.0.5"), label=label)


def test_labels_alone_make_no_other_network() -> None:
    spec = NetworkSpec("dc", "br", IPV4, labels={"of": '<"é\n">', "x": ""})
    assert parse(render(spec)).labels == spec.labels
    assert parse(render(spec)) == NetworkSpec("dc", "br", IPV4)


def test_a_reservation_has_an_address() -> None:
    with pytest.raises(InvalidAddress):
        Reservation("52:54:00:aa:bb:cc")
