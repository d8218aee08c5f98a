"""Give addresses to MACs and take them back. Every call may be repeated."""

from datetime import UTC, datetime
from ipaddress import ip_address

import libvirt

from hypervisor.libvirt_errors import explained
from hypervisor.network import guard
from hypervisor.network.addresses import normal_mac
from hypervisor.network.errors import AddressInUse, InvalidAddress, NoAddresses
from hypervisor.network.handles import network_lock, open_ours, open_pool
from hypervisor.network.ledger import Ledger
from hypervisor.network.reservation import Lease, Reservation
from hypervisor.network.spec import NetworkSpec

# a record that asks for nothing: adding or deleting it makes libvirt tell dnsmasq to read its files again
_NUDGE = '<host ip="127.255.255.254"><hostname>nudge.invalid</hostname></host>'
_NUDGES = 100  # attempts; one fails only when another process nudges in the same moment, which serves us too


def assign(connection: libvirt.virConnect, network: str, reservation: Reservation) -> None:
    """Make the network give exactly these addresses to that MAC, instead of what it had before.

    When this returns, the next DHCP request is answered so: dnsmasq acts on a signal before it reads the
    packet that came after it. An IPv4 address on which another MAC may still have a lease is usable at once.
    A guest may send under these addresses from now on; what held it to others lets them go.
    Raises `NoNetwork`, `ForeignNetwork`, `NoAddresses`, `InvalidAddress`, `AddressInUse`, `LibvirtError`.
    """
    with network_lock(network):
        handle, spec = open_ours(connection, network)
        pool = open_pool(connection, spec)
        _check(spec, reservation)
        with explained(f"reservations of network {network}"):
            ledger = Ledger(pool)
            for entry in ledger.reservations:
                _check_free(network, entry, reservation)
            ledger.purge()
            held = [entry for entry in ledger.reservations if entry.mac == reservation.mac]
            # before the ledger forgets what a repeated call has to take back
            guard.admit(connection, spec, reservation, held)
            ledger.reserve(reservation)
            _nudge(handle)


def release(connection: libvirt.virConnect, network: str, mac: str) -> None:
    """Take back the addresses of that MAC; does nothing when it has none.

    Do so when the interface is gone: a guest that is still there keeps its address until its lease ends
    (`reservation.LEASE`), and may take it back from the next holder.
    Raises `NoNetwork`, `ForeignNetwork`, `NoAddresses`, `InvalidAddress`, `LibvirtError`.
    """
    mac = normal_mac(mac)
    with network_lock(network):
        handle, spec = open_ours(connection, network)
        pool = open_pool(connection, spec)
        with explained(f"reservations of network {network}"):
            ledger = Ledger(pool)
            ledger.purge()
            guard.dismiss(connection, spec, [entry for entry in ledger.reservations if entry.mac == mac])
            ledger.release(mac)
            # also when there was no file: the step may have ended between its file and the signal
            _nudge(handle)


def reservations(connection: libvirt.virConnect, network: str) -> list[Reservation]:
    """What the network gives out, by MAC. Raises as `release` does."""
    _, spec = open_ours(connection, network)
    pool = open_pool(connection, spec)
    with explained(f"reservations of network {network}"):
        return sorted(Ledger(pool).reservations, key=lambda entry: entry.mac)


def leases(connection: libvirt.virConnect, network: str) -> list[Lease]:
    """What guests took by DHCP, as dnsmasq told libvirt. What they formed themselves is not among it."""
    handle, _ = open_ours(connection, network)
    with explained(f"leases of network {network}"):
        return [
            Lease(
                mac=str(lease["mac"]).lower(),
                address=ip_address(lease["ipaddr"]),
                hostname=lease.get("hostname"),
                client_id=lease.get("clientid"),
                expires=datetime.fromtimestamp(lease["expirytime"], UTC),
            )
            for lease in handle.DHCPLeases()
            if lease.get("mac")
        ]


def _check(spec: NetworkSpec, reservation: Reservation) -> None:
    for address, gateway in ((reservation.ipv4, spec.ipv4), (reservation.ipv6, spec.ipv6)):
        if address is None:
            continue
        if gateway is None:
            raise NoAddresses(f"network {spec.name} has no IPv{address.version}: {address} is no use there")
        edges = [gateway.ip, gateway.network[0]]
        if address.version == 4:
            edges.append(gateway.network[-1])
        if address not in gateway.network or address in edges:
            raise InvalidAddress(f"{address} is not the address of a guest in {gateway.network}")


def _check_free(network: str, entry: Reservation, reservation: Reservation) -> None:
    if entry.mac == reservation.mac:
        return
    for address in (reservation.ipv4, reservation.ipv6):
        if address is not None and address in (entry.ipv4, entry.ipv6):
            raise AddressInUse(f"{address} belongs to {entry.mac} on network {network}: release that first")


def _nudge(handle: libvirt.virNetwork) -> None:
    if not handle.isActive():
        return  # dnsmasq reads its files when the network starts
    commands = (libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE)
    section, live = libvirt.VIR_NETWORK_SECTION_DNS_HOST, libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE
    for attempt in range(_NUDGES):
        try:
            handle.update(commands[attempt % 2], section, -1, _NUDGE, live)
        except libvirt.libvirtError as error:
            # added already, or deleted already: the other command is due
            if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID or attempt == _NUDGES - 1:
                raise
        else:
            return
