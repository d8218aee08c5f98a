"""The kernel's parts of a bandwidth limit: buckets, the ifb, and the filter between (rtnetlink(7), tc(8))."""

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from hypervisor.network.errors import NoShaping

_ROOT, _INGRESS = 0xFFFFFFFF, 0xFFFF0000
_OURS = 0x48560000  # the handle of our buckets and the mark of our filters
_FILTER = 0x80000800  # 800::800, the first entry of the first table: one filter, replaced in place
_EVERY_PROTOCOL = 3  # ETH_P_ALL
_IFB = "hvi-"
_IFNAMSIZ = 15  # bytes of an interface's name
_HEADER = 18  # bytes of Ethernet with a VLAN tag
_BURST = 0.02  # seconds of traffic sent at once: the kernel may come late when the host is busy
_WAIT = 0.05  # seconds that a packet waits in the queue at most; then it is dropped, and TCP slows down
_QUEUE = 10  # full frames that may wait, however slow
_LARGE = 65536 + _HEADER  # bytes of the largest packet, which a network card would cut into frames (GSO)
_LARGE_TIME = 0.1  # seconds for which such a packet may hold up the others; a smaller bucket has it cut
_TICKS = 15_625_000  # in a second: 64 ns each (PSCHED_SHIFT)
_SLOWEST = 200  # seconds in which a bucket fills; tc counts 274 (32 bits of ticks)


class Link(NamedTuple):
    """An interface of the host; `number` is its index, `mtu` is in bytes."""

    name: str
    number: int
    mtu: int


def ifb_of(tap: str) -> str:
    """The name of the tap's ifb. It follows from the tap's, so that it is known when the tap is gone."""
    name = _IFB + tap
    if len(name.encode()) <= _IFNAMSIZ:
        return name
    return _IFB + blake2b(tap.encode(), digest_size=5).hexdigest()


def find(kernel: IPRoute, name: str) -> Link | None:
    """The interface of that name, None when there is none."""
    if not 0 < len(name.encode()) <= _IFNAMSIZ:
        return None
    try:
        found = next(iter(kernel.link("get", ifname=name)))
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise
    return Link(name, found["index"], found.get_attr("IFLA_MTU"))


def ifbs(kernel: IPRoute) -> tuple[set[str], set[str]]:
    """The ifbs of ours, and the names of all interfaces, listed after them: a tap is older than its ifb."""
    ours = set()
    for link in kernel.get_links():
        kind, name = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND"), link.get_attr("IFLA_IFNAME")
        if kind == "ifb" and name.startswith(_IFB):
            ours.add(name)
    return ours, {link.get_attr("IFLA_IFNAME") for link in kernel.get_links()} if ours else set()


def limit_to_guest(kernel: IPRoute, tap: Link, rate: float) -> None:
    """Put a bucket of `rate` kbit/s at the tap's root, or change the rate of the one there."""
    _fill(kernel, tap, rate, tap.mtu)


def limit_from_guest(kernel: IPRoute, tap: Link, rate: float) -> None:
    """Lead what comes in by the tap through a bucket of `rate` kbit/s, or change the rate of the one there.

    In an order in which the guest is connected at every moment, also when a step fails.
    """
    name = ifb_of(tap.name)
    ifb = find(kernel, name)
    if ifb is None:
        with _needed(tap, "ifb", errno.EOPNOTSUPP), _unless(errno.EEXIST):
            kernel.link("add", ifname=name, kind="ifb", mtu=tap.mtu)
        ifb = find(kernel, name)
        if ifb is None:
            raise NoShaping(f"bandwidth of {tap.name}: somebody removed {name} in this moment")
    _fill(kernel, ifb, rate, tap.mtu)
    if _redirected(kernel, tap) == ifb.number:
        return
    kernel.link("set", index=ifb.number, state="up")
    with _needed(tap, "sch_ingress", errno.ENOENT), _unless(errno.EEXIST):
        kernel.tc("add", "ingress", tap.number, _INGRESS)
    redirect = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": ifb.number}
    with _needed(tap, "cls_u32` and `modprobe act_mirred", errno.ENOENT):
        kernel.tc(
            "replace-filter",
            "u32",
            tap.number,
            _FILTER,
            parent=_INGRESS,
            prio=1,
            protocol=_EVERY_PROTOCOL,
            target=_OURS,
            keys=["0x0/0x0+0"],
            action=[redirect],
        )


def clear(kernel: IPRoute, tap: Link) -> None:
    """Take our bucket and our filter off the tap; its ifb is left."""
    if _redirected(kernel, tap) is not None:
        with _unless(errno.ENOENT, errno.EINVAL):
            kernel.tc("del", "ingress", tap.number, _INGRESS)
    if rate_to_guest(kernel, tap) is not None:
        with _unless(errno.ENOENT, errno.EINVAL):
            kernel.tc("del", index=tap.number, handle=_OURS, parent=_ROOT)


def remove(kernel: IPRoute, name: str) -> None:
    """Delete that ifb; does nothing when there is none."""
    ifb = find(kernel, name)
    if ifb is not None:
        with _unless(errno.ENODEV):
            kernel.link("del", index=ifb.number)


def rate_to_guest(kernel: IPRoute, tap: Link) -> float | None:
    """The rate of our bucket at the interface's root in kbit/s, None without one."""
    bucket = _bucket(kernel, tap)
    return None if bucket is None else float(bucket["rate"]) / 125


def rate_from_guest(kernel: IPRoute, tap: Link) -> float | None:
    """The rate of the bucket behind the tap's filter in kbit/s, None unless all of it is in place."""
    ifb = find(kernel, ifb_of(tap.name))
    if ifb is None or _redirected(kernel, tap) != ifb.number:
        return None
    return rate_to_guest(kernel, ifb)


def _fill(kernel: IPRoute, link: Link, rate: float, mtu: int) -> None:
    frame = mtu + _HEADER
    least = 2 * frame
    speed = math.ceil(max(rate * 125, least / _SLOWEST))  # bytes per second
    burst = max(least if speed * _LARGE_TIME < _LARGE else _LARGE, int(speed * _BURST))
    queue = burst + max(_QUEUE * frame, int(speed * _WAIT))
    former = _bucket(kernel, link)
    if former is not None and burst < min(_LARGE, _burst(former)):
        # a waiting packet larger than the bucket would never leave it: start anew, without what waits
        with _unless(errno.ENOENT, errno.EINVAL):
            kernel.tc("del", index=link.number, handle=_OURS, parent=_ROOT)
    with _needed(link, "sch_tbf", errno.ENOENT):
        # with the handle that is there, this is a change of that bucket, and what waits there stays
        kernel.tc("replace", "tbf", link.number, _OURS, parent=_ROOT, rate=speed, burst=burst, limit=queue)


def _bucket(kernel: IPRoute, link: Link) -> Any:
    """The parameters of our bucket at the interface's root (struct tc_tbf_qopt), None without one."""
    for qdisc in kernel.get_qdiscs(index=link.number):
        if qdisc["index"] == link.number and qdisc["handle"] == _OURS:
            return qdisc.get_nested("TCA_OPTIONS", "TCA_TBF_PARMS")
    return None


def _burst(bucket: Any) -> float:
    return float(bucket["rate"] * bucket["buffer"] / _TICKS)


def _redirected(kernel: IPRoute, tap: Link) -> int | None:
    """The index of the interface to which our filter leads, 0 when that is gone; None without filter."""
    for entry in kernel.get_filters(index=tap.number, parent=_INGRESS):
        if entry.get_nested("TCA_OPTIONS", "TCA_U32_CLASSID") == _OURS:
            action: Any = entry.get_nested(
                "TCA_OPTIONS", "TCA_U32_ACT", "TCA_ACT_PRIO_1", "TCA_ACT_OPTIONS", "TCA_MIRRED_PARMS"
            )
            return 0 if action is None else int(action["ifindex"])
    return None


@contextmanager
def _needed(link: Link, module: str, code: int) -> Iterator[None]:
    """Say of an error with that errno which module of the kernel is missing."""
    try:
        yield
    except NetlinkError as error:
        if error.code == code:
            raise NoShaping(
                f"bandwidth of {link.name}: the kernel lacks a part of traffic control: `modprobe {module}`, "
                "or use a kernel that has it"
            ) from error
        raise


@contextmanager
def _unless(*codes: int) -> Iterator[None]:
    """Let errors with these errnos pass: it was done already."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in codes:
            raise
