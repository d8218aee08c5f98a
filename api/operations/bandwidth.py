"""The bandwidth of a running virtual machine's interfaces, enforced on its taps."""

import logging

from api.operations import blueprint
from api.operations.backend import Backend
from api.store.models import Vm
from hypervisor.domain import hotplug
from hypervisor.errors import HypervisorError

log = logging.getLogger(__name__)


def sweep() -> None:
    """Remove what the limits of stopped machines and of detached interfaces left on the host."""
    try:
        hotplug.unlimit_gone()
    except HypervisorError as error:
        log.warning("limits of interfaces that are gone: %s", error)


def enforce(backend: Backend, vm_id: int) -> None:
    """Limit each tap of the VM to what the records say; does nothing when the VM does not run, or runs on
    another host: its taps are not here.

    A limit that cannot be set is logged: a guest without one is better than no guest.
    """
    with backend.store.reading() as session:
        vm = session.get_one(Vm, vm_id)
        rates = {blueprint.iface_alias(iface.id): iface.bandwidth for iface in vm.ifaces}
    try:
        if backend.hosts.is_near(vm.datacenter_id):
            hotplug.limit(backend.handle(vm.datacenter_id), vm.uuid, rates)
    except HypervisorError as error:
        log.warning("vm#%d: bandwidth is not limited: %s", vm_id, error)
