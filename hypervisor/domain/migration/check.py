"""Whether a move can work, before anything is touched."""

import ipaddress
import re
from dataclasses import replace
from pathlib import Path

import libvirt
from lxml import etree

from hypervisor.domain import power
from hypervisor.domain.check import SpecError
from hypervisor.domain.migration.move import MachineStopped, MigrationFailed, Move
from hypervisor.domain.power import State
from hypervisor.domain.spec import DomainSpec
from hypervisor.libvirt_errors import explained

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")


def check(source: libvirt.virConnect, target: libvirt.virConnect, move: Move) -> None:
    """Raise when `move` cannot work: the hosts, the domain, its volumes and networks on the target.

    Raises `NoDomain`, `MachineStopped`, `SpecError` for an address, `MigrationFailed` for the rest,
    `LibvirtError` or `Unavailable`. Free space is not looked at: how much is needed nobody knows.
    """
    uri(move.address)
    if power.state(source, move.uuid) is not State.RUNNING:
        raise MachineStopped(f"domain {move.target_spec.name} does not run: start it, or copy its volumes")
    running = power.read_live(source, move.uuid)
    _check_devices(running, move.target_spec)
    _check_hosts(source, target)
    _check_names(target, move.target_spec)
    _check_machine(source, target, move.uuid)
    _check_disks(source, target, running, move)
    for interface in move.target_spec.interfaces:
        with explained(f"network {interface.network} on the target"):
            if not target.networkLookupByName(interface.network).isActive():
                raise MigrationFailed(f"the network {interface.network} is not started on the target")


def uri(address: str) -> str:
    """The address as QEMU and libvirt want it; raises `SpecError`."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        if not _HOST.fullmatch(address):
            raise SpecError(f"{address!r} is neither an IP address nor a host name") from None
        return f"tcp://{address}"
    return f"tcp://[{found}]" if found.version == 6 else f"tcp://{found}"


def _shape(spec: DomainSpec) -> tuple[object, ...]:
    # what the guest sees of it, and how the disks are stored
    disks = {replace(disk, path=Path()) for disk in spec.disks}
    cards = {replace(interface, network="") for interface in spec.interfaces}
    return (spec.name, spec.accelerated, spec.console_log is None, disks, cards)


def _check_devices(running: DomainSpec, wanted: DomainSpec) -> None:
    if _shape(running) != _shape(wanted):
        raise MigrationFailed(
            f"domain {running.name} does not run as it is described for the target: "
            "restart it if a change waits for that, then move it"
        )


def _check_hosts(source: libvirt.virConnect, target: libvirt.virConnect) -> None:
    with explained("capabilities of the two hosts"):
        first, second = (_tree(one.getCapabilities()).findtext("host/uuid") for one in (source, target))
    if first == second:
        raise MigrationFailed(
            f"source and target are the same host {first}: move the volumes between its pools instead, "
            "or give each libvirtd a host_uuid of its own (libvirtd.conf)"
        )


def _check_names(target: libvirt.virConnect, spec: DomainSpec) -> None:
    with explained("domains on the target"):
        for domain in target.listAllDomains():
            if spec.uuid == domain.UUIDString() or spec.name == domain.name():
                raise MigrationFailed(
                    f"the target has a domain {domain.name()} with the UUID {domain.UUIDString()} already: "
                    "see which one is right, and undefine the other"
                )


def _check_machine(source: libvirt.virConnect, target: libvirt.virConnect, uuid: str) -> None:
    """The target can run the machine: its type, KVM or not, and its processor when that is the host's."""
    domain = power.lookup(source, uuid)
    with explained("the machine on the target"):
        root = _tree(domain.XMLDesc())
        kind = root.get("type", "")
        arch, machine = root.xpath("string(os/type/@arch)"), root.xpath("string(os/type/@machine)")
        # raises when that QEMU does not know the machine, or has no KVM
        target.getDomainCapabilities(None, arch, machine, kind)
        if kind != "kvm":
            return
        processors = _tree(source.getCapabilities()).findall("host/cpu")
        cpu = "".join(etree.tostring(one, encoding="unicode") for one in processors)
        verdict = target.compareCPU(cpu)
    if verdict not in (libvirt.VIR_CPU_COMPARE_IDENTICAL, libvirt.VIR_CPU_COMPARE_SUPERSET):
        raise MigrationFailed(
            "the target's processor lacks features of the source's: stop the machine, then move it"
        )


def _check_disks(
    source: libvirt.virConnect, target: libvirt.virConnect, running: DomainSpec, move: Move
) -> None:
    domain = power.lookup(source, move.uuid)
    if not move.copied:
        raise MigrationFailed(f"domain {running.name} has no disk to copy: stop it, then move it")
    for disk in move.target_spec.disks:
        with explained(f"volume {disk.path} on the target"):
            volume = target.storageVolLookupByPath(str(disk.path))
            there, here = volume.info()[1], domain.blockInfo(disk.target)[0]
        if there != here:
            raise MigrationFailed(
                f"the volume {disk.path} on the target has {there} bytes and the disk {here}: make it anew"
            )


def _tree(xml: str) -> etree._Element:
    return etree.fromstring(xml.encode())
