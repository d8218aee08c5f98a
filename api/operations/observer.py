"""Events back into the records: what libvirt says of a domain is the VM's state.

The states that an operation gives (being_created, being_migrated, deleted) and an administrator's (locked)
stay.
"""

import logging
import threading
from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api.operations import blueprint
from api.operations.attach import free_disk, free_iface
from api.operations.backend import Backend
from api.operations.bandwidth import enforce, sweep
from api.store.database import is_out_of_reach
from api.store.models import Vm
from hypervisor.domain import hotplug, power
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
# seconds until what could not be written is read anew
_CATCH_UP = 2.0


class Observer:
    """Writes down what happens to the domains, whoever caused it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._silent: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Take one event from the connection; one that cannot be written down is made up for later."""
        try:
            self._take(event)
        except OperationalError as error:
            if not is_out_of_reach(error):
                raise
            log.warning("the records cannot be written, which is tried again: %s", error.orig)
            self._catch_up()

    def _catch_up(self) -> None:
        # whoever delivers events must not wait for a full disk; nobody tells when there is space again
        later = threading.Timer(_CATCH_UP, self._backend.events.publish, [Event(Kind.RESYNC)])
        later.daemon = True
        later.start()

    def _take(self, event: Event) -> None:
        if event.kind is Kind.RESYNC:
            self.resync(event.origin)
        elif event.kind is Kind.DEVICE_REMOVED:
            self._device_left(event)
        elif event.kind in _CHANGES:
            self._state_changed(event)

    def _state_changed(self, event: Event) -> None:
        with self._backend.store.writing() as session:
            vm = self._vm(session, event)
            if vm is None:
                return
            # in any other state an operation is at it, which settles what became of it
            observed = vm.state in _OBSERVED
            if observed:
                vm.state = _CHANGES[event.kind]
            if event.kind in (Kind.STOPPED, Kind.CRASHED):
                _free_leaving(session, vm, plugged={})
        if observed and event.kind is Kind.STARTED:
            # also of one that somebody else started
            enforce(self._backend, vm.id)
        if event.kind in (Kind.STOPPED, Kind.CRASHED):
            sweep()

    def _device_left(self, event: Event) -> None:
        # a guest may let go long after it was asked
        with self._backend.store.writing() as session:
            vm = self._vm(session, event)
            if vm is not None:
                remaining = {blueprint.disk_alias(disk.id): "" for disk in vm.disks}
                remaining |= {blueprint.iface_alias(iface.id): "" for iface in vm.ifaces}
                remaining.pop(event.device, None)
                _free_leaving(session, vm, remaining)
        sweep()

    def _vm(self, session: Session, event: Event) -> Vm | None:
        """The VM that the event is about: not one of the same UUID on another host."""
        vm = session.scalar(select(Vm).where(Vm.uuid == event.uuid))
        if vm is None or self._backend.hosts.uri(vm.datacenter_id) != event.origin:
            return None
        return vm

    def resync(self, origin: str = "") -> None:
        """Read every state anew, or those of the libvirt at `origin`: events may have been lost.

        What a host that does not answer has stays in the records as it was.
        """
        for uri, datacenters in self._backend.hosts.places.items():
            if origin in ("", uri):
                self._read(uri, datacenters)
        sweep()

    def _read(self, uri: str, datacenters: Sequence[int]) -> None:
        started = []
        try:
            connection = self._backend.hosts.at(uri).handle()
            found = power.states(connection)
            here = select(Vm).where(Vm.state.in_(_OBSERVED), Vm.datacenter_id.in_(datacenters))
            with self._backend.store.writing() as session:
                for vm in session.scalars(here):
                    state = _SHOWN[found.get(vm.uuid, power.State.ABSENT)]
                    if vm.state != state:
                        vm.state = state
                        started += [vm.id] if state == "running" else []
                    if any(disk.leaving for disk in vm.disks) or any(one.leaving for one in vm.ifaces):
                        _free_leaving(session, vm, hotplug.plugged(connection, vm.uuid))
        except HypervisorError as error:
            if uri not in self._silent:
                log.warning("states of the domains: %s", error)
            self._silent.add(uri)
        else:
            self._silent.discard(uri)
        for vm_id in started:
            enforce(self._backend, vm_id)


def _free_leaving(session: Session, vm: Vm, plugged: Mapping[str, str]) -> None:
    """Record as free what was on its way out and is in the running domain no more."""
    for disk in vm.disks:
        if disk.leaving and blueprint.disk_alias(disk.id) not in plugged:
            free_disk(session, disk.id)
    for iface in vm.ifaces:
        if iface.leaving and blueprint.iface_alias(iface.id) not in plugged:
            free_iface(session, iface.id)


def state_of(backend: Backend, vm_id: int) -> str:
    """The VM's state as libvirt has it now."""
    return _SHOWN[power.state(*backend.machine(vm_id))]


def observed(session: Session, vm_id: int, state: str) -> None:
    """Record a state of the VM, unless it was locked meanwhile."""
    vm = session.get_one(Vm, vm_id)
    if vm.state != "locked":
        vm.state = state


def settle(backend: Backend, vm_id: int) -> None:
    """Make sure that the state recorded at the end of an operation is still the domain's, and that a machine
    that runs keeps to its bandwidth.

    An event that came just before was passed over, because the recorded state was not one to be observed; the
    one that sets the limits may have been lost with the connection.
    """
    while True:
        state = state_of(backend, vm_id)
        with backend.store.reading() as session:
            recorded = session.get_one(Vm, vm_id).state
        if recorded in (state, "deleted", "locked"):
            break
        with backend.store.writing() as session:
            observed(session, vm_id, state)
    if state == "running":
        enforce(backend, vm_id)
