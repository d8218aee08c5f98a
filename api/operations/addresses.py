"""MAC addresses and IP addresses for new interfaces, chosen in the caller's transaction."""

import ipaddress

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from api.store.models import Datacenter, Iface, Ip
from hypervisor.network import allocate, eui64, random_mac


def given(version: int) -> int:
    """How many addresses `give` gives."""
    return 2 if version == 4 else 1


def give(session: Session, iface: Iface, datacenter: Datacenter, version: int) -> list[Ip]:
    """Give the public `iface` a MAC and its addresses: IPv4 and IPv6 for `version` 4, IPv6 alone for 6."""
    _identify(session, iface)
    return give_more(session, iface, datacenter, version)


def give_more(
    session: Session, iface: Iface, datacenter: Datacenter, version: int, first: int = 0
) -> list[Ip]:
    """Give the public `iface` addresses in `datacenter`, as `give` does, numbered from `first` on."""
    chosen: list[tuple[int, str]] = []
    if version == 4:
        gateway = ipaddress.IPv4Interface(datacenter.ipv4)
        public = select(Ip.ip).where(Ip.datacenter_id == datacenter.id, Ip.vlan_id.is_(None), Ip.version == 4)
        chosen.append((4, _next(session, public, gateway, set())))
    prefix = ipaddress.IPv6Interface(datacenter.ipv6).network
    chosen.append((6, str(eui64(prefix, iface.mac))))
    return _record(session, iface, datacenter.id, chosen, first)


def give_private(
    session: Session, iface: Iface, subnet: str, gateway: str | None, wanted: str | None
) -> list[Ip]:
    """Give `iface` a MAC and one address of its vlan: the `wanted` one, else the next free one.

    The `gateway` is given out only when it is wanted.
    """
    _identify(session, iface)
    reserved = set() if gateway is None else {ipaddress.IPv4Address(gateway)}
    private = select(Ip.ip).where(Ip.vlan_id == iface.vlan_id)
    address = (
        wanted if wanted is not None else _next(session, private, ipaddress.IPv4Interface(subnet), reserved)
    )
    return _record(session, iface, iface.datacenter_id, [(4, address)])


def _identify(session: Session, iface: Iface) -> None:
    iface.mac = random_mac(set(session.scalars(select(Iface.mac))))
    session.add(iface)
    session.flush()


def _record(
    session: Session, iface: Iface, datacenter_id: int, chosen: list[tuple[int, str]], first: int = 0
) -> list[Ip]:
    ips = [
        Ip(
            account_id=iface.account_id,
            datacenter_id=datacenter_id,
            iface_id=iface.id,
            vlan_id=iface.vlan_id,
            ip=address,
            version=kind,
            num=number,
        )
        for number, (kind, address) in enumerate(chosen, start=first)
    ]
    session.add_all(ips)
    session.flush()
    return ips


def _next(
    session: Session,
    query: Select[str],
    subnet: ipaddress.IPv4Interface,
    reserved: set[ipaddress.IPv4Address],
) -> str:
    taken = session.scalars(query.order_by(Ip.id)).all()
    used = reserved | {ipaddress.IPv4Address(ip) for ip in taken}
    last = ipaddress.IPv4Address(taken[-1]) if taken else None
    return str(allocate(subnet, used, last))
