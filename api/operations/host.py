"""What the datacenters need of the host: their storage pools and networks."""

import ipaddress

from api.settings import DatacenterSettings, Settings
from hypervisor import network
from hypervisor.connection import Handle
from hypervisor.network import Mode, NetworkSpec
from hypervisor.storage import pool


def prepare(connection: Handle, settings: Settings) -> None:
    """Make each datacenter's pool and network, or see that they are there and run."""
    for datacenter in settings.datacenters:
        pool.ensure(connection, datacenter.pool, settings.pools / datacenter.pool)
        network.ensure(connection, network_spec(datacenter))


def network_spec(datacenter: DatacenterSettings) -> NetworkSpec:
    """The datacenter's network: its own bridge, out through the host's address."""
    return NetworkSpec(
        name=datacenter.network,
        bridge=datacenter.bridge,
        ipv4=ipaddress.IPv4Interface(datacenter.ipv4),
        ipv6=ipaddress.IPv6Interface(datacenter.ipv6),
        mode=Mode.NAT,
    )
