"""Memory, cores and passwords of a running domain."""

import libvirt

from hypervisor.domain.power import State, lookup, state
from hypervisor.domain.xml import parse
from hypervisor.libvirt_errors import explained

AT_NEXT_START = "at next start"


def adapt(connection: libvirt.virConnect, uuid: str, *, memory: int, vcpus: int) -> dict[str, str]:
    """Give the running domain `memory` MiB by its balloon and `vcpus` cores.

    Returns what has to wait for the next start: more memory than the ceiling it was started with, fewer cores
    than it has. Empty when the domain does not run.
    """
    if not state(connection, uuid).powered:
        return {}
    domain = lookup(connection, uuid)
    waiting: dict[str, str] = {}
    with explained(f"change of domain {domain.name()}"):
        running = parse(domain.XMLDesc())
        if memory > running.max_memory:
            waiting["memory"] = AT_NEXT_START
        elif memory != running.memory:
            domain.setMemoryFlags(memory * 1024, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        if vcpus < running.vcpus or vcpus > running.max_vcpus:
            waiting["cores"] = AT_NEXT_START
        elif vcpus > running.vcpus:
            domain.setVcpusFlags(vcpus, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    return waiting


_NO_AGENT = (
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
    libvirt.VIR_ERR_AGENT_UNSYNCED,
    libvirt.VIR_ERR_OPERATION_INVALID,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
    libvirt.VIR_ERR_INTERNAL_ERROR,
)


def set_passwords(connection: libvirt.virConnect, uuid: str, users: list[str], crypted: str) -> bool:
    """Set the password of `users` to the crypt(3) string `crypted` through the guest agent.

    False when no agent answers, or the domain does not run.
    """
    if state(connection, uuid) is not State.RUNNING:
        return False
    domain = lookup(connection, uuid)
    try:
        for user in users:
            domain.setUserPassword(user, crypted, libvirt.VIR_DOMAIN_PASSWORD_ENCRYPTED)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _NO_AGENT:
            return False
        with explained(f"password of domain {domain.name()}"):
            raise
    return True
