"""What a datacenter needs of its host: storage pool and networks."""

import ipaddress

from api.operations import vlan
from api.settings import DatacenterSettings, Settings
from api.store.database import Store
from api.store.models import Datacenter
from hypervisor import network
from hypervisor.connection import Handle
from hypervisor.network import Mode, NetworkSpec
from hypervisor.storage import pool


def prepare(store: Store, settings: Settings, connection: Handle, datacenter_id: int) -> None:
    """Make the datacenter's pool and networks on its libvirt, or see that they are there and run.

    A closed one, which the settings no longer describe, keeps what it has.
    """
    with store.reading() as session:
        record = session.get_one(Datacenter, datacenter_id)
    for datacenter in settings.datacenters:
        if datacenter.dc_code == record.dc_code:
            pool.ensure(connection, datacenter.pool, settings.pools / datacenter.pool)
            network.ensure(connection, network_spec(datacenter), datacenter.host_ports)
    if record.libvirt_uri is not None:
        # the service has made the one on its own host
        pool.make_folder(connection, settings.logs)
    vlan.ensure_all(store, connection, datacenter_id)


def network_spec(datacenter: DatacenterSettings) -> NetworkSpec:
    """The datacenter's network: its own bridge, out through the host's address."""
    return NetworkSpec(
        name=datacenter.network,
        bridge=datacenter.bridge,
        ipv4=ipaddress.IPv4Interface(datacenter.ipv4),
        ipv6=ipaddress.IPv6Interface(datacenter.ipv6),
        mode=Mode.NAT,
    )
