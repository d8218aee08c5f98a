"""Devices plugged into a running domain and taken out again.

The definition for the next start is the caller's affair (`power.define`); here it is the running machine
alone. A
guest may refuse to let go: that a request was accepted means nothing, only that the device is gone does.
"""

import string
from collections.abc import Callable

import libvirt
from lxml import etree

from hypervisor.domain import leftovers
from hypervisor.domain.power import lookup, state
from hypervisor.domain.spec import DiskSpec, InterfaceSpec
from hypervisor.domain.xml import disk_element, interface_element, parse
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import LibvirtError, explained
from hypervisor.network import bandwidth, bridge

# QEMU's words for a name that an earlier attempt left behind, and libvirt's for a tap
_LEFT = ("Duplicate nodes", "interface already exists", "Duplicate ID")
_GONE = (libvirt.VIR_ERR_DEVICE_MISSING, libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)


def plugged(connection: libvirt.virConnect, uuid: str) -> dict[str, str]:
    """What is in the running domain: target or MAC by device alias; empty when it does not run."""
    if not state(connection, uuid).powered:
        return {}
    domain = lookup(connection, uuid)
    with explained(f"devices of domain {domain.name()}"):
        spec = parse(domain.XMLDesc())
    found = {disk.alias: disk.target for disk in spec.disks}
    found.update({interface.alias: interface.mac for interface in spec.interfaces})
    return found


def booted_from(connection: libvirt.virConnect, uuid: str) -> str | None:
    """The alias of the disk that the running domain was started from; None when it does not run."""
    if not state(connection, uuid).powered:
        return None
    domain = lookup(connection, uuid)
    with explained(f"disks of domain {domain.name()}"):
        disks = parse(domain.XMLDesc()).disks
    return next((disk.alias for disk in disks if disk.boot is not None), None)


def plug_disk(connection: libvirt.virConnect, uuid: str, disk: DiskSpec) -> None:
    """Plug the disk in, unless it is or the domain is off; at another target when its own is in use."""
    present = plugged(connection, uuid)
    if not present or disk.alias in present:
        return
    domain = lookup(connection, uuid)
    element = disk_element(_at_free_target(disk, set(present.values())))
    _attach(domain, element, lambda: leftovers.drop(domain))


def _at_free_target(disk: DiskSpec, used: set[str]) -> DiskSpec:
    names = (disk.target, *(f"vd{letter}" for letter in string.ascii_lowercase))
    free = next((name for name in names if name not in used), None)
    if free is None:
        raise HypervisorError(f"the domain has no place left for {disk.path.name}: detach a disk first")
    # what is plugged in later is never booted from before the next start
    return DiskSpec(disk.alias, disk.path, free, disk.format, disk.readonly, None, disk.serial)


def plug_interface(connection: libvirt.virConnect, uuid: str, interface: InterfaceSpec) -> None:
    """Plug the interface in, unless it is or the domain is off."""
    present = plugged(connection, uuid)
    if not present or interface.alias in present:
        return
    domain = lookup(connection, uuid)
    element = interface_element(interface)
    _attach(
        domain,
        element,
        lambda: leftovers.drop_interface(connection, domain, interface.alias, interface.mac),
    )


def _attach(domain: libvirt.virDomain, element: etree._Element, drop: Callable[[], bool]) -> None:
    """Plug it in; once more when `drop` has removed what an earlier attempt left in its way."""
    xml = etree.tostring(element, encoding="unicode")
    try:
        _attach_once(domain, xml)
    except LibvirtError as error:
        if not any(words in str(error) for words in _LEFT) or not drop():
            raise
        _attach_once(domain, xml)


def _attach_once(domain: libvirt.virDomain, xml: str) -> None:
    with explained(f"plugging a device into domain {domain.name()}"):
        domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def drop_leftovers(connection: libvirt.virConnect, uuid: str) -> None:
    """Let the running machine close what it was given in an attempt that libvirt does not remember."""
    if state(connection, uuid).powered:
        leftovers.drop(lookup(connection, uuid))


def drop_leftover_interface(connection: libvirt.virConnect, uuid: str, alias: str, mac: str) -> None:
    """Remove what is left of an attempt to plug in an interface that libvirt does not remember."""
    present = plugged(connection, uuid)
    if present and alias not in present:
        leftovers.drop_interface(connection, lookup(connection, uuid), alias, mac)


def ask_to_let_go(connection: libvirt.virConnect, uuid: str, alias: str) -> None:
    """Ask the guest to let go of the device; returns at once. Asking again while it is being asked is
    fine."""
    domain = lookup(connection, uuid)
    try:
        domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        pending = "in the process of unplug" in str(error)
        if error.get_error_code() not in _GONE and not pending:
            with explained(f"unplugging {alias} from domain {domain.name()}"):
                raise


def unlimit_gone() -> None:
    """Remove what is left of the limits of interfaces that are gone."""
    bandwidth.sweep()


def limit(connection: libvirt.virConnect, uuid: str, rates: dict[str, float]) -> None:
    """Limit the running domain's interfaces, by alias, to `rates` in kbit/s, each way."""
    if not state(connection, uuid).powered:
        return
    domain = lookup(connection, uuid)
    with explained(f"interfaces of domain {domain.name()}"):
        xml = domain.XMLDesc()
    taps = bridge.taps(xml)
    for interface in parse(xml).interfaces:
        if interface.alias in rates and interface.mac in taps:
            bandwidth.limit(taps[interface.mac], rates[interface.alias])
