"""How many bits a guest's interface carries in a second, held at its tap by the kernel (tc(8)).

To the guest: what leaves the host by the tap waits in a token bucket, tc-tbf(8), at the tap's root. From the
guest: what comes in by the tap cannot wait there, so a filter at its ingress hands every packet to an `ifb`
of the tap's own (tc-mirred(8)), whose token bucket lets it through. A change of the rate changes the buckets
where they are; no packet is dropped for it.

A tap goes when its guest stops, its ifb does not: `clear` it, or `sweep` up all that are left.
"""

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from hypervisor.network import traffic
from hypervisor.network.errors import NoShaping

log = logging.getLogger(__name__)

# one bucket's rate travels in 32 bits of bytes per second (struct tc_ratespec): 34.3 Gbit/s
_FASTEST = 2**32 / 125  # kbit/s
# one at a time: two calls for one tap would undo each other's halves, and a call takes only milliseconds
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Limit:
    """What is set on a tap, in kbit/s; None for a direction without limit."""

    to_guest: float | None
    from_guest: float | None


def limit(tap: str, rate: float) -> None:
    """Let the tap carry `rate` kbit/s in each direction; does nothing when there is no such interface.

    Call it when the interface appeared, and again for another rate. A rate that a bucket cannot hold
    (above 34 Gbit/s) is no limit. On an error the tap is limited in one direction or in none, and its guest
    is connected as before: say so and go on.
    Raises `NoShaping` when the kernel lacks a part, `ValueError` when the rate is not above 0.
    """
    if math.isnan(rate) or rate <= 0:
        raise ValueError(f"{rate} kbit/s is no bandwidth: it has to be above 0")
    if rate >= _FASTEST:
        clear(tap)
        return
    with _changing(tap) as kernel:
        link = traffic.find(kernel, tap)
        if link is None:
            return
        first: NoShaping | None = None
        for half in (traffic.limit_to_guest, traffic.limit_from_guest):
            try:
                half(kernel, link, rate)
            except NoShaping as error:
                first = first or error  # the other direction may do
        if first is not None:
            raise first


def clear(tap: str) -> None:
    """Let the tap carry whatever it can; removes what `limit` made, also when the tap is gone already.

    Raises `NoShaping` when the kernel refuses.
    """
    with _changing(tap) as kernel:
        link = traffic.find(kernel, tap)
        if link is not None:
            traffic.clear(kernel, link)
        traffic.remove(kernel, traffic.ifb_of(tap))


def read(tap: str) -> Limit | None:
    """What `limit` set on the tap, as the kernel has it; None without limit or without such an interface."""
    with _changing(tap) as kernel:
        link = traffic.find(kernel, tap)
        if link is not None:
            found = Limit(traffic.rate_to_guest(kernel, link), traffic.rate_from_guest(kernel, link))
            return None if found == Limit(None, None) else found
    return None


def sweep() -> list[str]:
    """Remove each ifb of ours whose tap is gone; their names. Ifbs that were made elsewhere stay."""
    with _lock, IPRoute() as kernel:
        ours, present = traffic.ifbs(kernel)
        swept = sorted(ours - {traffic.ifb_of(name) for name in present})
        for name in swept:
            traffic.remove(kernel, name)
    return swept


@contextmanager
def _changing(tap: str) -> Iterator[IPRoute]:
    """A socket to the kernel; a tap that vanished under the calls inside is no error."""
    # opening one takes half a millisecond; a shared one would have to be locked, and reopened after a fork
    with _lock, IPRoute() as kernel:
        try:
            yield kernel
        except (NetlinkError, NoShaping) as error:
            if traffic.find(kernel, tap) is not None:
                if isinstance(error, NetlinkError):
                    raise NoShaping(f"bandwidth of {tap}: {error}") from error
                raise
            log.debug("%s is gone: no bandwidth to set", tap)
            traffic.remove(kernel, traffic.ifb_of(tap))
