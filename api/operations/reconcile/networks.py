"""Interfaces and private networks; reservations, networks and taps."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.operations import iface as ifaces
from api.operations import vlan as vlans
from api.operations.backend import Backend
from api.operations.reconcile.finding import Finding
from api.operations.survey import Place, Private
from api.store.models import Iface, Vlan
from hypervisor import network
from hypervisor.network import Reservation
from hypervisor.network import survey as networks


def compare(session: Session, place: Place, *, near: bool) -> Iterator[Finding]:
    """The networks of one datacenter; `near` is whether its taps are on this machine."""
    if place.reservations is None:
        name, code = place.datacenter.network, place.datacenter.dc_code
        text = f"the network {name} of {code} is not there; the service makes it when it starts"
        yield Finding(f"network:{name}", text)
    yield from _vlans(session, place)
    yield from _reservations(session, place)
    if near:
        yield from _taps(place)


def _vlans(session: Session, place: Place) -> Iterator[Finding]:
    here = select(Vlan).where(Vlan.datacenter_id == place.datacenter.id).order_by(Vlan.id)
    recorded = session.scalars(here).all()
    for vlan in recorded:
        about, there = f"vlan:{vlan.id}", place.networks.get(vlan.network)
        wanted = vlans.spec(session, vlan)
        mend = partial(_ensure, vlan_id=vlan.id)
        if there is None:
            yield Finding(about, f"vlan#{vlan.id} has no network", f"makes {vlan.network} anew", mend)
        elif not there.active:
            text = f"the network {vlan.network} of vlan#{vlan.id} is stopped"
            yield Finding(about, text, "starts it", mend)
        elif there.spec != wanted or there.spec.labels != wanted.labels:
            text = f"the network {vlan.network} is not defined as vlan#{vlan.id} is"
            yield Finding(about, text, "defines it so", mend)
    for name in sorted(place.networks.keys() - {vlan.network for vlan in recorded}):
        yield Finding(
            f"vlan:{vlans.recorded(place.networks[name].spec).get('id')}",
            f"the network {name} is of no vlan",
            "removes it",
            partial(_remove, place=place, name=name),
        )


def _reservations(session: Session, place: Place) -> Iterator[Finding]:
    there: dict[str, list[Reservation]] = {
        name: private.reservations for name, private in place.networks.items()
    }
    if place.reservations is not None:
        there[place.datacenter.network] = place.reservations
    here = select(Iface).where(Iface.datacenter_id == place.datacenter.id).order_by(Iface.id)
    wanted: set[tuple[str, str]] = set()
    for iface in session.scalars(here).unique():
        name = ifaces.network_of(session, iface, place.datacenter.id)
        wanted.add((name, iface.mac))
        kept = [_addresses(one) for one in there.get(name, []) if one.mac == iface.mac]
        if name in there and kept != [sorted(ip.ip for ip in iface.ips)]:
            yield Finding(
                f"iface:{iface.id}",
                f"the network {name} does not give iface#{iface.id} its addresses",
                "reserves them",
                partial(_reserve, iface_id=iface.id),
            )
    for name, listed in there.items():
        for one in listed:
            if (name, one.mac) not in wanted:
                told = ifaces.labelled(one)
                given = ", ".join(_addresses(one))
                yield Finding(
                    f"iface:{told[0] if told else one.mac}",
                    f"the network {name} keeps {given} for {one.mac}, which is of no interface there",
                    "takes the reservation back",
                    partial(_release, place=place, name=name, mac=one.mac),
                )


def _addresses(reservation: Reservation) -> list[str]:
    return sorted(str(one) for one in (reservation.ipv4, reservation.ipv6) if one is not None)


def _taps(place: Place) -> Iterator[Finding]:
    private: list[Private] = list(place.networks.values())
    bridges = [*([place.bridge] if place.bridge else []), *(one.spec.bridge for one in private)]
    for bridge in bridges:
        for tap in networks.stray_taps(bridge, place.used):
            yield Finding(
                f"tap:{tap}",
                f"the tap {tap} in bridge {bridge} is of no domain",
                "removes it",
                partial(_remove_tap, name=tap),
            )


def _ensure(backend: Backend, vlan_id: int) -> Any:
    vlans.ensure(backend, vlan_id)


def _remove(_backend: Backend, place: Place, name: str) -> None:
    network.remove(place.handle, name)


def _reserve(backend: Backend, iface_id: int) -> None:
    ifaces.reserve(backend, iface_id)


def _release(_backend: Backend, place: Place, name: str, mac: str) -> None:
    network.release(place.handle, name, mac)


def _remove_tap(_backend: Backend, name: str) -> None:
    networks.remove_tap(name)
