"""A domain's life: defined, started, asked to stop, reset, cut off, undefined.

Every function takes the open connection and the domain's UUID, and may be repeated: a step of an operation
runs again after a crash.
"""

import contextlib
from enum import StrEnum

import libvirt
from lxml import etree

from hypervisor.domain.spec import DomainSpec
from hypervisor.domain.xml import NAMESPACE, parse, parse_labels, render
from hypervisor.libvirt_errors import NoDomain, explained


class State(StrEnum):
    """Whether a domain runs (virDomainState)."""

    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"
    ABSENT = "absent"


_RUNNING = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED, libvirt.VIR_DOMAIN_SHUTDOWN)
_PAUSED = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED)


def _state(number: int) -> State:
    if number in _RUNNING:
        return State.RUNNING
    return State.PAUSED if number in _PAUSED else State.OFF


def lookup(connection: libvirt.virConnect, uuid: str) -> libvirt.virDomain:
    """The domain's handle; raises `NoDomain`."""
    with explained(f"domain {uuid}"):
        return connection.lookupByUUIDString(uuid)


def state(connection: libvirt.virConnect, uuid: str) -> State:
    """Whether the domain runs, is paused, is off, or does not exist."""
    try:
        domain = lookup(connection, uuid)
        with explained(f"state of domain {uuid}"):
            return _state(domain.state()[0])
    except NoDomain:
        return State.ABSENT


def states(connection: libvirt.virConnect) -> dict[str, State]:
    """The state of every domain that is ours, by UUID."""
    found = {}
    with explained("list of domains"):
        for domain in connection.listAllDomains():
            # a domain may be undefined between the list and the question
            with contextlib.suppress(libvirt.libvirtError):
                domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE)
                found[domain.UUIDString()] = _state(domain.state()[0])
    return found


def define(connection: libvirt.virConnect, spec: DomainSpec) -> None:
    """Make libvirt know the domain, or know it anew; a foreign one of the same name is an error."""
    with explained(f"definition of domain {spec.name}"):
        connection.defineXMLFlags(render(spec))


def start(connection: libvirt.virConnect, uuid: str) -> None:
    """Power the domain on, unless it is; one that was paused goes on."""
    domain = lookup(connection, uuid)
    with explained(f"start of domain {domain.name()}"):
        match _state(domain.state()[0]):
            case State.OFF:
                domain.create()
            case State.PAUSED:
                domain.resume()


def request_shutdown(connection: libvirt.virConnect, uuid: str) -> None:
    """Press the power button. A paused guest is resumed first: it could not hear it."""
    domain = lookup(connection, uuid)
    with explained(f"stop message to domain {domain.name()}"):
        if _state(domain.state()[0]) is State.PAUSED:
            domain.resume()
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)


def request_reboot(connection: libvirt.virConnect, uuid: str) -> None:
    """Press the power button such that the machine starts anew, in the same process, once the guest has
    halted."""
    domain = lookup(connection, uuid)
    with explained(f"reboot message to domain {domain.name()}"):
        if _state(domain.state()[0]) is State.PAUSED:
            domain.resume()
        domain.reboot(libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)


def reset(connection: libvirt.virConnect, uuid: str) -> None:
    """Press the reset button."""
    domain = lookup(connection, uuid)
    with explained(f"reset of domain {domain.name()}"):
        domain.reset()


def cut_off(connection: libvirt.virConnect, uuid: str) -> None:
    """Pull the plug, unless the domain is off or gone."""
    try:
        domain = lookup(connection, uuid)
        with explained(f"power-off of domain {domain.name()}"):
            if domain.isActive():
                domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)
    except NoDomain:
        return


def undefine(connection: libvirt.virConnect, uuid: str) -> None:
    """Cut the domain off and make libvirt forget it, with whatever libvirt keeps for it."""
    cut_off(connection, uuid)
    with contextlib.suppress(NoDomain):
        domain = lookup(connection, uuid)
        with explained(f"removal of domain {domain.name()}"):
            domain.undefineFlags(
                libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            )


def read(connection: libvirt.virConnect, uuid: str) -> DomainSpec:
    """What the domain is defined as, for its next start; raises `NoDomain`."""
    domain = lookup(connection, uuid)
    with explained(f"definition of domain {uuid}"):
        return parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


def read_live(connection: libvirt.virConnect, uuid: str) -> DomainSpec:
    """What the domain is now; raises `NoDomain`."""
    domain = lookup(connection, uuid)
    with explained(f"definition of domain {uuid}"):
        return parse(domain.XMLDesc())


def labels(connection: libvirt.virConnect, uuid: str) -> dict[str, str]:
    """Our marks on the domain; empty when it is not ours. Raises `NoDomain`."""
    domain = lookup(connection, uuid)
    with explained(f"metadata of domain {uuid}"):
        return parse_labels(etree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).encode()))
