"""Events back into the records: what libvirt says of a domain is the VM's state.

The states that an operation gives (being_created, being_migrated, deleted) and an administrator's (locked)
stay.
"""

import logging

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.operations.backend import Backend
from api.store.models import Vm
from hypervisor.domain import power
from hypervisor.errors import HypervisorError
from hypervisor.events import Event, Kind

log = logging.getLogger(__name__)

_SHOWN = {
    power.State.RUNNING: "running",
    power.State.PAUSED: "paused",
    power.State.OFF: "halted",
    power.State.ABSENT: "halted",
}
_OBSERVED = ("running", "paused", "halted")
_CHANGES = {
    Kind.STARTED: "running",
    Kind.RESUMED: "running",
    Kind.SUSPENDED: "paused",
    Kind.STOPPED: "halted",
    Kind.CRASHED: "halted",
}


class Observer:
    """Writes down what happens to the domains, whoever caused it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __call__(self, event: Event) -> None:
        """Take one event from the connection."""
        if event.kind is Kind.RESYNC:
            self.resync()
        elif event.kind in _CHANGES:
            with self._backend.store.writing() as session:
                vm = session.scalar(select(Vm).where(Vm.uuid == event.uuid, Vm.state.in_(_OBSERVED)))
                if vm is not None:
                    vm.state = _CHANGES[event.kind]

    def resync(self) -> None:
        """Read every state anew: events may have been lost."""
        try:
            found = power.states(self._backend.connection.handle())
        except HypervisorError as error:
            log.warning("states of the domains: %s", error)
            return
        with self._backend.store.writing() as session:
            for vm in session.scalars(select(Vm).where(Vm.state.in_(_OBSERVED))):
                state = _SHOWN[found.get(vm.uuid, power.State.ABSENT)]
                if vm.state != state:
                    vm.state = state


def state_of(backend: Backend, vm_id: int) -> str:
    """The VM's state as libvirt has it now."""
    with backend.store.reading() as session:
        uuid = session.get_one(Vm, vm_id).uuid
    return _SHOWN[power.state(backend.connection.handle(wait=30), uuid)]


def observed(session: Session, vm_id: int, state: str) -> None:
    """Record a state of the VM."""
    session.get_one(Vm, vm_id).state = state


def settle(backend: Backend, vm_id: int) -> None:
    """Make sure that the state recorded at the end of an operation is still the domain's.

    An event that came just before was passed over, because the recorded state was not one to be observed.
    """
    while True:
        state = state_of(backend, vm_id)
        with backend.store.reading() as session:
            if session.get_one(Vm, vm_id).state in (state, "deleted"):
                return
        with backend.store.writing() as session:
            observed(session, vm_id, state)
