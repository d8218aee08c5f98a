"""The namespace ``hosting.account``: who calls, and what the account uses."""

import ipaddress

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.methods.call import Call, Struct
from api.methods.table import method
from api.operations import quota
from api.store.models import Account, Datacenter, Disk, Iface, Ip, Vm

# the network's own address, its broadcast address and the gateway's
_RESERVED = 3
_BANDWIDTH = 102400.0  # kbit/s, of one interface


@method("hosting.account.info", returns="struct", changes=False)
def info(call: Call) -> Struct:
    """Get information about the account: its handle, and the resources that it uses and can still use."""
    with call.store.reading() as session:
        used = _used(session, call.account)
        available = _available(session, call)
    return show(call.account, used, available)


def show(account: Account, used: Struct, available: Struct) -> Struct:
    """AccountReturn. Nothing is billed here, so there are no credits, and none are needed."""
    return {
        "id": account.id,
        "handle": account.handle,
        "fullname": account.fullname,
        "credits": 0,
        "average_credit_cost": None,
        "cycle_day": account.date_created.day,
        "date_credits_expiration": None,
        "products": None,
        "rating_enabled": True,  # libcloud offers its sizes on this condition
        "resources": {
            "available": available,
            "expired": dict.fromkeys(used, 0) | {"bandwidth": 0.0},
            "granted": {key: used[key] + available[key] for key in used},
            "used": used,
        },
        "share_definition": None,
    }


def _used(session: Session, account: Account) -> Struct:
    """What the account's objects take: memory and disk in MiB, bandwidth in kbit/s."""
    living = (Vm.account_id == account.id, Vm.state != "deleted")
    servers, cores, memory = session.execute(
        select(func.count(), func.sum(Vm.cores), func.sum(Vm.memory)).where(*living)
    ).one()
    disk = session.scalar(select(func.sum(Disk.size)).where(Disk.account_id == account.id))
    bandwidth = session.scalar(select(func.sum(Iface.bandwidth)).where(Iface.account_id == account.id))
    ips = session.scalar(select(func.count(Ip.id)).where(Ip.account_id == account.id))
    return _resources(servers, cores, memory, disk, bandwidth, ips)


def _available(session: Session, call: Call) -> Struct:
    """What one more object may ask for: an account has its limits, and a datacenter runs out of IPv4."""
    taken = (
        select(Ip.datacenter_id, func.count())
        .join(Iface)
        .where(Ip.version == 4, Iface.vlan_id.is_(None))
        .group_by(Ip.datacenter_id)
    )
    used = {place: count for place, count in session.execute(taken)}  # noqa: C416 - rows are no pairs to mypy
    free = sum(
        max(0, ipaddress.IPv4Interface(one.ipv4).network.num_addresses - _RESERVED - used.get(one.id, 0))
        for one in session.scalars(select(Datacenter).where(Datacenter.iaas_closed_for != "ALL"))
    )
    limits = call.limits
    most = {
        "vms": free,
        "cores": limits.cores,
        "memory": limits.memory,
        "disk": limits.disk_size,
        "addresses": free,
    }
    granted = quota.limits_of(call.account, limits.account)
    if any(limit is not None for limit in granted.values()):
        has = quota.used(session, call.account.id)
        for kind, limit in granted.items():
            if limit is not None:
                most[kind] = min(most[kind], max(0, limit - has[kind]))
    return _resources(most["vms"], most["cores"], most["memory"], most["disk"], _BANDWIDTH, most["addresses"])


def _resources(
    servers: int,
    cores: int | None,
    memory: int | None,
    disk: int | None,
    bandwidth: float | None,
    ips: int | None,
) -> Struct:
    return {
        "shares": servers,  # of old a unit of one server
        "servers": servers,
        "slots": servers,
        "cores": cores or 0,
        "memory": memory or 0,
        "disk": disk or 0,
        "bandwidth": float(bandwidth or 0),
        "ips": ips or 0,
    }
