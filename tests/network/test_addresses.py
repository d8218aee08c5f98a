"""Which address comes next."""

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.network import allocate, eui64, normal_mac, random_mac
from hypervisor.network.errors import InvalidAddress, SubnetExhausted

GATEWAY = IPv4Interface("192.0.2.1/29")


def test_skips_network_gateway_and_broadcast() -> None:
    used: set[IPv4Address] = set()
    for _ in range(5):
        used.add(allocate(GATEWAY, used))
    assert used == {IPv4Address(f"192.0.2.{last}") for last in range(2, 7)}
    with pytest.raises(SubnetExhausted, match="release some"):
        allocate(GATEWAY, used)


def test_an_address_handed_back_rests() -> None:
    last = None
    for expected in (2, 3, 4, 5, 6, 2, 3):
        last = allocate(GATEWAY, set(), last)
        assert last == IPv4Address(f"192.0.2.{expected}")


def test_wraps_around_to_what_is_free() -> None:
    used = {IPv4Address("192.0.2.2"), IPv4Address("192.0.2.6")}
    assert allocate(GATEWAY, used, IPv4Address("192.0.2.5")) == IPv4Address("192.0.2.3")
    assert allocate(GATEWAY, used, IPv4Address("198.51.100.9")) == IPv4Address("192.0.2.3")


def test_ipv6() -> None:
    gateway = IPv6Interface("fd00::1/64")
    assert allocate(gateway, set()) == IPv6Address("fd00::2")
    assert allocate(gateway, set(), IPv6Address("fd00::ffff:ffff:ffff:ffff")) == IPv6Address("fd00::2")


def test_no_room() -> None:
    with pytest.raises(SubnetExhausted):
        allocate(IPv4Interface("192.0.2.1/32"), set())


@given(st.integers(1, 14), st.sets(st.integers(0, 15)), st.integers(0, 15))
def test_is_free_and_a_guests(gateway: int, used: set[int], last: int) -> None:
    subnet = IPv4Interface(f"192.0.2.{gateway}/28")
    taken = {IPv4Address(f"192.0.2.{number}") for number in used}
    free = {IPv4Address(f"192.0.2.{number}") for number in range(1, 15) if number != gateway} - taken
    if free:
        assert allocate(subnet, taken, IPv4Address(f"192.0.2.{last}")) in free
    else:
        with pytest.raises(SubnetExhausted):
            allocate(subnet, taken, IPv4Address(f"192.0.2.{last}"))


def test_eui64_is_that_of_the_rfc() -> None:
    # the example of RFC 4291, appendix A, with numbers
    prefix = IPv6Interface("2001:db8::1/64")
    assert eui64(prefix, "34:56:78:9A:BC:DE") == IPv6Address("2001:db8::3656:78ff:fe9a:bcde")
    assert eui64(prefix.network, "52:54:00:00:00:01") == IPv6Address("2001:db8::5054:ff:fe00:1")
    with pytest.raises(InvalidAddress, match="/64"):
        eui64(IPv6Interface("2001:db8::1/48"), "52:54:00:00:00:01")


def test_random_mac_is_new() -> None:
    used: set[str] = set()
    for _ in range(1000):
        mac = random_mac(used)
        assert mac not in used
        assert mac == normal_mac(mac)
        assert mac.startswith("52:54:00:")
        used.add(mac)


@pytest.mark.parametrize("mac", ["", "52:54:00:00:00", "52:54:00:00:00:zz", "01:00:5e:00:00:01", "1,2"])
def test_what_is_no_mac(mac: str) -> None:
    with pytest.raises(InvalidAddress):
        normal_mac(mac)
