"""All domains of ours on a host, as they are defined and as they run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import libvirt

from hypervisor.domain.power import State, is_marked, state
from hypervisor.domain.spec import DomainSpec
from hypervisor.domain.xml import NAMESPACE, parse
from hypervisor.libvirt_errors import NoDomain, explained
from hypervisor.network import bridge, share

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """A domain: its definition for the next start, what runs now (None when it is off), its state."""

    defined: DomainSpec
    live: DomainSpec | None
    state: State


def domains(connection: libvirt.virConnect) -> list[Seen]:
    """The domains that have our marks; one that vanishes meanwhile is left out. Raises `LibvirtError`."""
    return _each(connection, partial(_look, connection))


def _each(connection: libvirt.virConnect, look: Callable[[libvirt.virDomain], T]) -> list[T]:
    found = []
    with explained("list of domains"):
        for domain in connection.listAllDomains():
            if is_marked(domain, NAMESPACE):
                try:
                    found.append(look(domain))
                except NoDomain:
                    continue
    return found


def _look(connection: libvirt.virConnect, domain: libvirt.virDomain) -> Seen:
    now = state(connection, domain.UUIDString())
    defined = _defined(domain)
    with explained(f"definition of domain {domain.UUIDString()}"):
        live = parse(domain.XMLDesc()) if now.powered else None
    return Seen(defined, live, now)


def _defined(domain: libvirt.virDomain) -> DomainSpec:
    with explained(f"definition of domain {domain.UUIDString()}"):
        return parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


def share_addresses(connection: libvirt.virConnect) -> None:
    """Let every guest with several interfaces use the addresses of all of them on each (`network.share`).

    `power.define` does so for one; this is for all, when the rules may have been lost. Raises `LibvirtError`.
    """
    for spec in _each(connection, _defined):
        if len(spec.interfaces) > 1:
            share(connection, [interface.mac for interface in spec.interfaces])


def taps(connection: libvirt.virConnect) -> set[str]:
    """The interfaces on the host that running domains have, whoever made them."""
    found: set[str] = set()
    with explained("interfaces of the domains"):
        for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            try:
                found.update(bridge.taps(domain.XMLDesc()).values())
            except libvirt.libvirtError as error:
                # it has ended meanwhile
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
    return found
