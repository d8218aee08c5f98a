"""What a domain is made of, as values."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DiskSpec:
    """A disk of a domain.

    `alias` is our own name for the device (libvirt wants it to begin with ``ua-``), `target` its place
    (``vda``), `boot` its turn at boot, from 1, or None.
    """

    alias: str
    path: Path
    target: str
    format: str = "qcow2"
    readonly: bool = False
    boot: int | None = None
    serial: str | None = None


@dataclass(frozen=True, slots=True)
class InterfaceSpec:
    """A network interface of a domain, on a libvirt network."""

    alias: str
    mac: str
    network: str


@dataclass(frozen=True, slots=True)
class DomainSpec:
    """A domain. Memory is in MiB; `memory` is what the guest has now, `max_memory` what it may grow to.

    `accelerated` chooses KVM over emulation; `labels` are our own marks in its metadata: a domain without
    them is not ours; `notes`, a text, is kept beside them for the caller. `hotplug_ports` PCIe root ports are
    kept free for devices that come later.
    """

    uuid: str
    name: str
    vcpus: int
    max_vcpus: int
    memory: int
    max_memory: int
    accelerated: bool
    console_log: Path | None = None
    disks: tuple[DiskSpec, ...] = ()
    interfaces: tuple[InterfaceSpec, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    hotplug_ports: int = 8
    notes: str = ""
