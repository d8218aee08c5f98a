"""A datacenter's network: whether it runs, on its bridge, and its DHCP server gives a lease."""

import shutil
from collections.abc import Iterator

import libvirt

from hypervisor.doctor import lease
from hypervisor.doctor.finding import Finding, command, ok, problem, virsh, warning
from hypervisor.doctor.host import is_root
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import explained
from hypervisor.network import NetworkSpec, bridge, guard, reservations
from hypervisor.network.conflicts import is_local
from hypervisor.network.errors import ForeignNetwork
from hypervisor.network.handles import check_ours, find


def examine(connection: libvirt.virConnect, spec: NetworkSpec, restart: str) -> Iterator[Finding]:
    """Look at the network, as `spec` says it should be; `restart` makes one that is missing.

    Ends after the first problem that the others follow from. Raises `LibvirtError`.
    """
    subject = f"network {spec.name}"
    uri = connection.getURI()
    network = find(connection, spec.name)
    if network is None:
        yield problem(subject, "libvirt does not know it: the start of the service makes it", restart)
        return
    with explained(subject):
        try:
            check_ours(spec.name, network.XMLDesc())
        except ForeignNetwork as error:
            yield problem(subject, str(error))
            return
        if not network.isActive():
            yield problem(subject, "it is stopped: no machine can start", virsh(uri, "net-start", spec.name))
            return
        if not network.autostart():
            yield warning(subject, "it is not started with libvirt", virsh(uri, "net-autostart", spec.name))
    if not is_local(connection):
        yield ok(subject, "active; its bridge and its DHCP are on another host and were not looked at")
        return
    yield from _bridge(connection, subject, spec, restart)


def _bridge(
    connection: libvirt.virConnect, subject: str, spec: NetworkSpec, restart: str
) -> Iterator[Finding]:
    uri = connection.getURI()
    again = f"{virsh(uri, 'net-destroy', spec.name)} && {virsh(uri, 'net-start', spec.name)}"
    if not bridge.exists(spec.bridge):
        yield problem(subject, f"its bridge {spec.bridge} is gone: machines on it have no network", again)
        return
    held = bridge.addresses().get(spec.bridge, [])
    missing = [one for one in (spec.ipv4, spec.ipv6) if one is not None and one not in held]
    if missing:
        yield problem(
            subject,
            f"its bridge {spec.bridge} has not the address {missing[0]}, which is the machines' gateway",
            command("ip", "address", "add", missing[0], "dev", spec.bridge),
        )
        return
    # only root sees the rules
    gaps = list(_gaps(connection, spec)) if is_root() else []
    if gaps:
        install = "" if shutil.which("nft") else f"{command('apt-get', 'install', 'nftables')} && "
        yield problem(subject, f"rules of nftables are missing: {' and '.join(gaps)}", install + restart)
        return
    yield ok(subject, f"active on bridge {spec.bridge}, {len(bridge.ports(spec.bridge))} plugged in")


def _gaps(connection: libvirt.virConnect, spec: NetworkSpec) -> Iterator[str]:
    return guard.gaps(connection, spec, reservations(connection, spec.name) if spec.serves else [])


def leases(connection: libvirt.virConnect, spec: NetworkSpec) -> Finding:
    """Ask the network's DHCP server for a lease, as a machine would."""
    subject = f"DHCP {spec.name}"
    if not is_root():
        return warning(subject, "only root can ask for a lease", "sudo hypervisor doctor")
    try:
        try:
            given, seconds = lease.obtain(connection, spec)
        except lease.NoLease:
            # one that had died is started by libvirt when a reservation comes or goes
            given, seconds = lease.obtain(connection, spec)
    except lease.NoLease as error:
        # libvirt starts another one as soon as an address is reserved, and machines stay plugged in
        end = command("sh", "-c", f"kill -9 $(cat /run/libvirt/network/{spec.name}.pid)")
        return problem(subject, f"{error}; end a server that hangs, and look again", end)
    except (HypervisorError, OSError) as error:
        return warning(subject, f"no lease could be asked for: {error}")
    return ok(subject, f"a lease on {given} was given within {seconds * 1000:.0f} ms, and handed back")
