"""What the workflows work with."""

from dataclasses import dataclass
from pathlib import Path

from api.operations.console import Consoles
from api.operations.hosts import Hosts
from api.settings import MigrationSettings, Patience
from api.store.database import Store
from api.store.models import Vm
from hypervisor.connection import Handle
from hypervisor.events import Events


@dataclass(frozen=True, slots=True)
class Backend:
    """The records, the hosts, and how to use them. `accelerated` is whether guests run under KVM."""

    store: Store
    hosts: Hosts
    patience: Patience
    console_logs: Path
    consoles: Consoles
    accelerated: bool
    max_vcpus: int
    migration: MigrationSettings

    @property
    def events(self) -> Events:
        """What happens to the domains, wherever they are."""
        return self.hosts.events

    def handle(self, datacenter_id: int) -> Handle:
        """The open connection to the datacenter's libvirt, waited for as long as it may take.

        Raises `Unavailable`, sooner when there has been none for so long, and `HypervisorError` when the
        datacenter's pool or network cannot be had there.
        """
        return self.hosts.handle(datacenter_id, wait=self.patience.libvirt)

    def machine(self, vm_id: int) -> tuple[Handle, str]:
        """The open connection to the VM's libvirt, as `handle` gives it, and the domain's UUID there."""
        with self.store.reading() as session:
            vm = session.get_one(Vm, vm_id)
        return self.handle(vm.datacenter_id), vm.uuid
