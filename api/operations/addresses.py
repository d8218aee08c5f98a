"""MAC addresses and IP addresses for new interfaces, chosen in the caller's transaction."""

import ipaddress

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.store.models import Datacenter, Iface, Ip
from hypervisor.network import allocate, eui64, random_mac


def give(session: Session, iface: Iface, datacenter: Datacenter, version: int) -> list[Ip]:
    """Give `iface` a MAC and its addresses: IPv4 and IPv6 for `version` 4, IPv6 alone for 6."""
    iface.mac = random_mac(set(session.scalars(select(Iface.mac))))
    session.add(iface)
    session.flush()
    chosen: list[tuple[int, str]] = []
    if version == 4:
        chosen.append((4, _next_ipv4(session, datacenter)))
    prefix = ipaddress.IPv6Interface(datacenter.ipv6).network
    chosen.append((6, str(eui64(prefix, iface.mac))))
    ips = [
        Ip(
            account_id=iface.account_id,
            datacenter_id=datacenter.id,
            iface_id=iface.id,
            ip=address,
            version=kind,
            num=number,
        )
        for number, (kind, address) in enumerate(chosen)
    ]
    session.add_all(ips)
    session.flush()
    return ips


def _next_ipv4(session: Session, datacenter: Datacenter) -> str:
    gateway = ipaddress.IPv4Interface(datacenter.ipv4)
    taken = session.execute(
        select(Ip.ip, Ip.id).where(Ip.datacenter_id == datacenter.id, Ip.version == 4).order_by(Ip.id)
    ).all()
    used = {ipaddress.IPv4Address(row.ip) for row in taken}
    last = ipaddress.IPv4Address(taken[-1].ip) if taken else None
    return str(allocate(gateway, used, last))
