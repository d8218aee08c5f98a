"""Hold the guests of a datacenter's network to their addresses, and off the host, where that can be done.

A host without it serves its guests as before; what is missing there is said in the log.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import libvirt

from hypervisor.network import conflicts, firewall, isolation
from hypervisor.network.errors import NoFirewall
from hypervisor.network.reservation import Reservation
from hypervisor.network.spec import Mode, NetworkSpec

log = logging.getLogger(__name__)


def protect(
    connection: libvirt.virConnect, spec: NetworkSpec, held: Collection[Reservation], ports: Collection[int]
) -> None:
    """Make the rules, with all reservations of the network and the host's ports that its guests reach."""
    if not _guarded(spec):
        return
    if not conflicts.is_local(connection):
        log.warning(
            "libvirt may be on another host: there guests of %s can send under the addresses of others and "
            "reach the ports of the host, unless its own firewall forbids that",
            spec.name,
        )
        return
    with _told(f"guests of {spec.name} reach all ports of this host"):
        firewall.guard(spec.bridge, ports)
    with _told(f"guests of {spec.name} can send under the addresses of others"):
        isolation.install(held)


def admit(
    connection: libvirt.virConnect, spec: NetworkSpec, new: Reservation, former: Collection[Reservation]
) -> None:
    """Let a guest of the network use its new reservation, and the former ones no more."""
    if _guarded(spec) and conflicts.is_local(connection):
        with _told(f"{new.mac} on {spec.name} is not held to its addresses"):
            isolation.admit(new, former)


def dismiss(connection: libvirt.virConnect, spec: NetworkSpec, gone: Collection[Reservation]) -> None:
    """Take the reservations of the network away from their guests."""
    if gone and _guarded(spec) and conflicts.is_local(connection):
        with _told(f"addresses of {spec.name} are not taken back"):
            isolation.dismiss(gone)


def share(connection: libvirt.virConnect, macs: Collection[str]) -> None:
    """Let a guest with these interfaces, on whatever networks, use the addresses of all of them on each."""
    if conflicts.is_local(connection):
        with _told(f"{', '.join(macs)} cannot share their addresses"):
            isolation.share(macs)


def forget(connection: libvirt.virConnect, spec: NetworkSpec, held: Collection[Reservation]) -> None:
    """Undo `protect`."""
    dismiss(connection, spec, held)
    if _guarded(spec) and conflicts.is_local(connection):
        with _told(f"the firewall still names {spec.bridge}"):
            firewall.forget(spec.bridge)


def gaps(connection: libvirt.virConnect, spec: NetworkSpec, held: Collection[Reservation]) -> Iterator[str]:
    """What guests of the network can do because rules that `protect` and `admit` made are gone.

    Only looks, and only as root.
    """
    if not _guarded(spec) or not conflicts.is_local(connection):
        return
    if not firewall.guards(spec.bridge):
        yield "guests reach all ports of this host"
    if not isolation.holds(one.mac for one in held):
        yield "guests can send under the addresses of others"


def _guarded(spec: NetworkSpec) -> bool:
    # on an existing bridge the addresses are not ours; a private network is its owner's affair
    return spec.serves and spec.mode is not Mode.PRIVATE


@contextmanager
def _told(consequence: str) -> Iterator[None]:
    try:
        yield
    except NoFirewall as error:
        log.warning("%s: %s", consequence, error)
