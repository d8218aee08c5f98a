"""A disk that QEMU was given by a libvirtd that was killed before it wrote that down."""

import json
from pathlib import Path

import libvirt
import libvirt_qemu
import pytest

from hypervisor.domain import hotplug, power
from hypervisor.domain.spec import DiskSpec
from tests.domain.conftest import NewSpec
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


@pytest.fixture
def running(connection: libvirt.virConnect, new_spec: NewSpec, tmp_path: Path) -> libvirt.virDomain:
    """A machine that runs with one disk."""
    spec = new_spec(disks=(DiskSpec("ua-seed", image(tmp_path / "seed.qcow2"), "vdz"),))
    power.define(connection, spec)
    power.start(connection, spec.uuid)
    return power.lookup(connection, spec.uuid)


def _open(domain: libvirt.virDomain) -> set[str]:
    pid = Path(f"/run/libvirt/qemu/{domain.name()}.pid").read_text()
    return {str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()}


def test_it_does_not_keep_another_disk_away(
    connection: libvirt.virConnect, running: libvirt.virDomain, tmp_path: Path
) -> None:
    disk = DiskSpec("ua-disk-1", image(tmp_path / "one.qcow2"), "vda")
    # the number that comes next
    _given(running, disk.path, 2)
    hotplug.plug_disk(connection, running.UUIDString(), disk)
    assert hotplug.plugged(connection, running.UUIDString())["ua-disk-1"] == "vda"


def test_it_is_let_go_of(connection: libvirt.virConnect, running: libvirt.virDomain, tmp_path: Path) -> None:
    used = {str(tmp_path / "seed.qcow2"), str(image(tmp_path / "used.qcow2"))}
    disk = DiskSpec("ua-disk-1", tmp_path / "used.qcow2", "vda")
    hotplug.plug_disk(connection, running.UUIDString(), disk)
    forgotten = image(tmp_path / "forgotten.qcow2")
    _given(running, forgotten, 9)
    assert {*used, str(forgotten)} <= _open(running)
    hotplug.drop_leftovers(connection, running.UUIDString())
    assert used <= _open(running)
    assert str(forgotten) not in _open(running)
