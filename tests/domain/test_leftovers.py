"""A disk that QEMU was given by a libvirtd that was killed before it wrote that down."""

import json
from pathlib import Path

import libvirt
import libvirt_qemu
import pytest

from hypervisor.domain import hotplug, power
from hypervisor.domain.spec import DiskSpec, DomainSpec
from tests.domain.test_devices import image

pytestmark = pytest.mark.lab


def _given(domain: libvirt.virDomain, file: Path, number: int) -> None:
    """Do what libvirt does first to plug a disk in."""
    storage, form = f"libvirt-{number}-storage", f"libvirt-{number}-format"
    for node in (
        {"driver": "file", "filename": str(file), "node-name": storage, "auto-read-only": True},
        {"driver": "qcow2", "file": storage, "node-name": form},
    ):
        said = libvirt_qemu.qemuMonitorCommand(
            domain, json.dumps({"execute": "blockdev-add", "arguments": node}), 0
        )
        assert "return" in json.loads(said), said


def _open(domain: libvirt.virDomain) -> set[str]:
    pid = Path(f"/run/libvirt/qemu/{domain.name()}.pid").read_text()
    return {str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()}


def test_it_does_not_keep_another_disk_away(
    connection: libvirt.virConnect, machine: DomainSpec, tmp_path: Path
) -> None:
    power.start(connection, machine.uuid)
    domain = connection.lookupByUUIDString(machine.uuid)
    disk = DiskSpec("ua-disk-1", image(tmp_path / "one.qcow2"), "vda")
    _given(domain, disk.path, 1)
    hotplug.plug_disk(connection, machine.uuid, disk)
    assert hotplug.plugged(connection, machine.uuid) == {"ua-disk-1": "vda"}


def test_it_is_let_go_of(connection: libvirt.virConnect, machine: DomainSpec, tmp_path: Path) -> None:
    power.start(connection, machine.uuid)
    domain = connection.lookupByUUIDString(machine.uuid)
    used = DiskSpec("ua-disk-1", image(tmp_path / "used.qcow2"), "vda")
    hotplug.plug_disk(connection, machine.uuid, used)
    forgotten = image(tmp_path / "forgotten.qcow2")
    _given(domain, forgotten, 9)
    assert {str(used.path), str(forgotten)} <= _open(domain)
    hotplug.drop_leftovers(connection, machine.uuid)
    assert str(used.path) in _open(domain)
    assert str(forgotten) not in _open(domain)
    hotplug.drop_leftovers(connection, machine.uuid)
    assert hotplug.plugged(connection, machine.uuid) == {"ua-disk-1": "vda"}
