"""What the workflows work with."""

from dataclasses import dataclass
from pathlib import Path

import hypervisor.connection
from api.operations.console import Consoles
from api.settings import MigrationSettings, Patience
from api.store.database import Store


@dataclass(frozen=True, slots=True)
class Backend:
    """The records, the host, and how to use it. `accelerated` is whether guests run under KVM."""

    store: Store
    connection: hypervisor.connection.Connection
    patience: Patience
    console_logs: Path
    consoles: Consoles
    accelerated: bool
    max_vcpus: int
    migration: MigrationSettings

    def handle(self) -> hypervisor.connection.Handle:
        """The open connection to libvirt, waited for as long as it may take. Raises `Unavailable`."""
        return self.connection.handle(wait=self.patience.libvirt)
