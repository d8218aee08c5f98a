"""A domain made whole after a move that was interrupted: on exactly one host."""

import time

import libvirt

from hypervisor.domain import power
from hypervisor.domain.migration.move import MigrationFailed, Place
from hypervisor.domain.power import State
from hypervisor.libvirt_errors import LibvirtError, NoDomain, explained

# all in seconds
_PATIENCE = 60.0  # how long libvirt may take to end a move
_LOOK = 0.1

_OUT = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
_MIGRATING = (State.PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)


def settle(source: libvirt.virConnect, target: libvirt.virConnect, uuid: str) -> Place:
    """End whatever is left of a move of the domain, and say where the domain now is; may be repeated.

    For a domain that `begin` has passed, or may have; no `Transfer` of it may run any more, in no process.
    Afterwards it is defined on one host and unknown to the other, and runs if it ran. The volumes of the
    other host are the caller's to remove; `NOWHERE` is a domain that neither host knows.

    Raises `MigrationFailed` when that cannot be decided, `LibvirtError`, or `Unavailable` when one of the
    hosts does not answer: then nothing may be removed.
    """
    if not _has_arrived(target, uuid):
        # libvirt may still wait for a client that is gone, or be about to switch over: so look again after it
        _end_job(source, uuid)
    if _has_arrived(target, uuid):
        if power.state(source, uuid) is State.RUNNING:
            raise MigrationFailed(
                f"domain {uuid} is on both hosts: see which is right, and undefine the other"
            )
        power.undefine(source, uuid)
        return Place.TARGET
    power.undefine(target, uuid)
    if power.state(source, uuid) is State.ABSENT:
        return Place.NOWHERE
    _wake(source, uuid)
    return Place.SOURCE


def _has_arrived(target: libvirt.virConnect, uuid: str) -> bool:
    """Whether the domain has run on the target: one that only receives is paused for the migration."""
    state, reason = _state(target, uuid)
    return state is not State.ABSENT and (state, reason) != _MIGRATING


def _end_job(source: libvirt.virConnect, uuid: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while _moves(source, uuid):
        if time.monotonic() > deadline:
            raise MigrationFailed(
                f"libvirt does not end the move of domain {uuid}: restart the source's libvirtd"
            )
        time.sleep(_LOOK)


def _moves(source: libvirt.virConnect, uuid: str) -> bool:
    """Whether libvirt is moving the domain away; tells it not to."""
    try:
        domain = power.lookup(source, uuid)
        with explained(f"end of the move of domain {uuid}"):
            if not domain.isActive() or domain.jobStats().get("operation") != _OUT:
                return False
            domain.abortJob()
    except NoDomain:
        return False
    except LibvirtError as error:
        # between the two questions the job or the domain ended
        if error.code != libvirt.VIR_ERR_OPERATION_INVALID:
            raise
    return True


def _wake(source: libvirt.virConnect, uuid: str) -> None:
    if _state(source, uuid) == _MIGRATING:
        power.resume(source, uuid)


def _state(connection: libvirt.virConnect, uuid: str) -> tuple[State, int]:
    """The domain's state, and why it is paused."""
    state = power.state(connection, uuid)
    if state is not State.PAUSED:
        return state, 0
    domain = power.lookup(connection, uuid)
    with explained(f"state of domain {uuid}"):
        return state, domain.state()[1]
