"""A domain's life: defined, started, asked to stop, reset, cut off, undefined.

Every function takes the open connection and the domain's UUID, and may be repeated: a step of an operation
runs again after a crash.
"""

import contextlib
from collections.abc import Iterator
from enum import StrEnum

import libvirt
from lxml import etree
from lxml.builder import E

from hypervisor import network
from hypervisor.domain.spec import DomainSpec
from hypervisor.domain.xml import NAMESPACE, NOTES, parse, parse_labels, render
from hypervisor.libvirt_errors import Busy, LibvirtError, NoDomain, explained


class State(StrEnum):
    """Whether a domain runs (virDomainState)."""

    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"
    ABSENT = "absent"

    @property
    def powered(self) -> bool:
        """Whether the machine is on, be it paused."""
        return self in (State.RUNNING, State.PAUSED)


_RUNNING = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED, libvirt.VIR_DOMAIN_SHUTDOWN)
_PAUSED = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED)
_STARTING = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP]


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
        # one question for all of them; asking each one takes three times as long
        for domain, facts in connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE):
            if is_marked(domain, NAMESPACE):
                found[domain.UUIDString()] = _state(facts["state.state"])
    return found


def is_marked(domain: libvirt.virDomain, namespace: str) -> bool:
    """Whether the domain's metadata has an element of the namespace; raises `libvirt.libvirtError`."""
    try:
        domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, namespace)
    except libvirt.libvirtError as error:
        # without a mark, or undefined meanwhile; any other error must not pass for that
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN):
            return False
        raise
    return True


def define(connection: libvirt.virConnect, spec: DomainSpec) -> None:
    """Make libvirt know the domain, or know it anew. Its interfaces share their addresses from then on.

    Raises `LibvirtError` when a foreign domain has the name or the UUID, which is then left as it is, and
    `SpecError` for what a domain cannot have.
    """
    xml = render(spec)
    known = False
    with explained(f"definition of domain {spec.name}"), contextlib.suppress(NoDomain):
        domain = lookup(connection, spec.uuid)
        known = True
        if not is_marked(domain, NAMESPACE):
            raise LibvirtError(
                f"domain {domain.name()} has the UUID {spec.uuid} and is not ours: it is left alone",
                libvirt.VIR_ERR_DOM_EXIST,
            )
    # a new one with one interface has shared nothing before
    if len(spec.interfaces) > 1 or (known and spec.interfaces):
        network.share(connection, [interface.mac for interface in spec.interfaces])
    with explained(f"definition of domain {spec.name}"):
        connection.defineXMLFlags(xml)


def label(connection: libvirt.virConnect, uuid: str, labels: dict[str, str]) -> None:
    """Give the domain other marks, now and for its next start. Raises `NoDomain`, `LibvirtError`."""
    domain = lookup(connection, uuid)
    flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    with explained(f"labels of domain {domain.name()}"):
        if _state(domain.state()[0]).powered:
            flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
        # libvirt puts it into the namespace itself
        xml = etree.tostring(E.labels(dict(sorted(labels.items()))), encoding="unicode")
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, xml, "hypervisor", NAMESPACE, flags)


def notes(connection: libvirt.virConnect, uuid: str) -> str:
    """The text kept with the domain's definition; empty when there is none. Raises `NoDomain`."""
    domain = lookup(connection, uuid)
    with explained(f"notes of domain {uuid}"):
        try:
            xml = domain.metadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT, NOTES, libvirt.VIR_DOMAIN_AFFECT_CONFIG
            )
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
                return ""
            raise
    return etree.fromstring(xml.encode()).text or ""


def note(connection: libvirt.virConnect, uuid: str, text: str) -> None:
    """Keep another text with the domain's definition. Raises `NoDomain`, `LibvirtError`."""
    domain = lookup(connection, uuid)
    xml = etree.tostring(E.notes(text), encoding="unicode")
    with explained(f"notes of domain {uuid}"):
        domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT, xml, "notes", NOTES, libvirt.VIR_DOMAIN_AFFECT_CONFIG
        )


def start(connection: libvirt.virConnect, uuid: str) -> None:
    """Power the domain on, unless it is; one that was paused goes on."""
    domain = lookup(connection, uuid)
    with explained(f"start of domain {domain.name()}"), _unless(domain, State.RUNNING):
        number = domain.state()[0]
        if number == libvirt.VIR_DOMAIN_SHUTDOWN:
            # the guest has halted and its process is about to end: waiting for that could miss it
            _destroy(domain)
            number = libvirt.VIR_DOMAIN_SHUTOFF
        if _state(number) is State.OFF:
            domain.create()
        else:
            _wake(domain, number)


def _wake(domain: libvirt.virDomain, number: int) -> None:
    if number == libvirt.VIR_DOMAIN_PMSUSPENDED:
        domain.pMWakeup()
    elif number == libvirt.VIR_DOMAIN_PAUSED:
        domain.resume()


@contextlib.contextmanager
def _unless(domain: libvirt.virDomain, wanted: State) -> Iterator[None]:
    """Let pass that libvirt refuses what was done by somebody else meanwhile."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            raise
        if _state(domain.state()[0]) is not wanted:
            raise


def suspend(connection: libvirt.virConnect, uuid: str) -> None:
    """Stop the domain's processors, unless it is paused, off or gone."""
    if state(connection, uuid) is State.RUNNING:
        domain = lookup(connection, uuid)
        with explained(f"suspension of domain {domain.name()}"):
            domain.suspend()


def resume(connection: libvirt.virConnect, uuid: str) -> State:
    """Let a paused domain go on; returns its state, whatever it was before."""
    if state(connection, uuid) is State.PAUSED:
        domain = lookup(connection, uuid)
        with explained(f"resumption of domain {domain.name()}"):
            domain.resume()
    return state(connection, uuid)


def request_shutdown(connection: libvirt.virConnect, uuid: str) -> None:
    """Press the power button; returns at once. A paused guest is resumed first: it could not hear it."""
    domain = lookup(connection, uuid)
    with explained(f"stop message to domain {domain.name()}"):
        with _unless(domain, State.RUNNING):
            _wake(domain, domain.state()[0])
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)


def request_reboot(connection: libvirt.virConnect, uuid: str) -> None:
    """Press the power button such that the machine starts anew, in the same process, once the guest has
    halted. Returns at once."""
    domain = lookup(connection, uuid)
    with explained(f"reboot message to domain {domain.name()}"):
        with _unless(domain, State.RUNNING):
            _wake(domain, domain.state()[0])
        domain.reboot(libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)


def reset(connection: libvirt.virConnect, uuid: str) -> None:
    """Press the reset button; a paused machine stays paused."""
    domain = lookup(connection, uuid)
    with explained(f"reset of domain {domain.name()}"):
        domain.reset()


def cut_off(connection: libvirt.virConnect, uuid: str) -> None:
    """Pull the plug, unless the domain is off or gone. Takes 0.2 seconds; up to 15 for a QEMU that hangs."""
    with contextlib.suppress(NoDomain):
        domain = lookup(connection, uuid)
        try:
            with explained(f"power-off of domain {domain.name()}"):
                _destroy(domain)
        except Busy as error:
            if domain.state() == _STARTING:
                raise Busy(
                    f"{error}: its start was cut short by the end of libvirtd, whose successor waits for it "
                    f"in vain. Stop libvirtd, remove /run/libvirt/qemu/{domain.name()}.xml, start libvirtd",
                    error.code,
                ) from error
            raise


def _destroy(domain: libvirt.virDomain) -> None:
    with _unless(domain, State.OFF):
        if domain.isActive():
            domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)


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
        return parse_labels(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
