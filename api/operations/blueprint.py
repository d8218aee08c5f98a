"""From a virtual machine's records to its domain and its seed."""

import re

from sqlalchemy.orm import Session

from api.operations import notes
from api.operations.backend import Backend
from api.store.models import Account, Datacenter, Disk, Iface, Vm
from hypervisor.domain.spec import DiskSpec, DomainSpec, InterfaceSpec
from hypervisor.seed import Seed
from hypervisor.storage import volume

# the seed stands behind every position that a disk can have
_SEED_TARGET = "vdz"
SEED_ALIAS = "ua-seed"
"""Our name for the device of the seed."""

MAX_POSITION = 23


def target(position: int) -> str:
    """The device name of the disk at `position`."""
    return f"vd{chr(ord('a') + position)}"


def disk_alias(disk_id: int) -> str:
    """Our name for the device of a disk."""
    return f"ua-disk-{disk_id}"


def iface_alias(iface_id: int) -> str:
    """Our name for the device of an interface."""
    return f"ua-iface-{iface_id}"


def disk_of(alias: str) -> int | None:
    """The disk whose device has the name `alias`, None when it is no disk's of the records."""
    return _number(alias, "ua-disk-")


def iface_of(alias: str) -> int | None:
    """The interface whose device has the name `alias`."""
    return _number(alias, "ua-iface-")


def _number(alias: str, prefix: str) -> int | None:
    number = alias.removeprefix(prefix)
    return int(number) if alias.startswith(prefix) and number.isdecimal() else None


def seed_volume(vm: Vm) -> str:
    """The name of the volume that holds the VM's seed."""
    return f"seed-{vm.id}-{vm.uuid[:8]}.iso"


def seed(vm: Vm) -> Seed:
    """What the guest is told at its first boot."""
    given = vm.seed
    return Seed(
        instance_id=f"{vm.uuid}-{vm.seed_version}",
        hostname=vm.hostname,
        login=given.get("login"),
        password_hash=given.get("password_hash"),
        ssh_keys=tuple(given.get("ssh_keys", ())),
        run=given.get("run"),
        script=given.get("script"),
        script_args=given.get("script_args"),
    )


SEED_VOLUME = re.compile(r"seed-(?P<vm>[0-9]+)-[0-9a-f]{8}\.iso")
"""The names that `seed_volume` gives."""


def domain(backend: Backend, session: Session, vm: Vm) -> DomainSpec:
    """The domain of the VM as the records want it; its volumes must exist."""
    datacenter = session.get_one(Datacenter, vm.datacenter_id)
    account = session.get_one(Account, vm.account_id)
    connection = backend.handle(datacenter.id)
    seed_path = volume.path(connection, datacenter.pool, seed_volume(vm))
    return DomainSpec(
        uuid=vm.uuid,
        name=f"vm-{vm.id}",
        vcpus=vm.cores,
        max_vcpus=max(backend.max_vcpus, vm.cores),
        memory=vm.memory,
        max_memory=vm.vm_max_memory,
        accelerated=backend.accelerated,
        console_log=backend.console_logs / f"{vm.uuid}.log",
        disks=(
            *(disk(backend, datacenter, one) for one in vm.disks if not one.leaving),
            DiskSpec(SEED_ALIAS, seed_path, _SEED_TARGET, format="raw", readonly=True),
        ),
        interfaces=tuple(interface(datacenter, one) for one in vm.ifaces if not one.leaving),
        labels={"vm": str(vm.id), "account": account.handle, "datacenter": datacenter.dc_code},
        notes=notes.compose(session, vm),
    )


def disk(backend: Backend, datacenter: Datacenter, record: Disk) -> DiskSpec:
    """The device of an attached disk."""
    position = record.position or 0
    return DiskSpec(
        alias=disk_alias(record.id),
        path=volume.path(backend.handle(datacenter.id), datacenter.pool, record.volume),
        target=target(position),
        readonly=record.access == "read",
        boot=1 if position == 0 else None,
        serial=f"disk-{record.id}",
    )


def interface(datacenter: Datacenter, record: Iface) -> InterfaceSpec:
    """The device of an attached interface."""
    network = datacenter.network if record.vlan is None else record.vlan.network
    return InterfaceSpec(alias=iface_alias(record.id), mac=record.mac, network=network)
