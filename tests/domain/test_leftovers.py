"""A disk or an interface that QEMU was given by a libvirtd that was killed before it wrote that down."""

import json
import subprocess
from pathlib import Path

import libvirt
import libvirt_qemu
import pytest

from hypervisor.domain import hotplug, monitor, power
from hypervisor.domain.spec import DiskSpec, InterfaceSpec
from hypervisor.network import random_mac
from hypervisor.network.addresses import tap_of
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


@pytest.mark.parametrize("place", ["host", "machine", "both"])
def test_an_interface_that_was_begun(
    connection: libvirt.virConnect, running: libvirt.virDomain, network: str, place: str
) -> None:
    mac = random_mac(())
    if place in ("host", "both"):
        subprocess.run(["ip", "tuntap", "add", tap_of(mac), "mode", "tap"], check=True)
    if place in ("machine", "both"):
        given = {"type": "hubport", "hubid": 7, "id": "hostua-iface-1"}
        monitor.ask(running, "netdev_add", **given)
    hotplug.plug_interface(connection, running.UUIDString(), InterfaceSpec("ua-iface-1", mac, network))
    assert hotplug.plugged(connection, running.UUIDString())["ua-iface-1"] == mac


def test_an_interface_that_was_given_up(
    connection: libvirt.virConnect, running: libvirt.virDomain, network: str
) -> None:
    given_up, used = random_mac(()), random_mac(())
    hotplug.plug_interface(connection, running.UUIDString(), InterfaceSpec("ua-iface-2", used, network))
    subprocess.run(["ip", "tuntap", "add", tap_of(given_up), "mode", "tap"], check=True)
    for alias, mac in (("ua-iface-1", given_up), ("ua-iface-2", used)):
        hotplug.drop_leftover_interface(connection, running.UUIDString(), alias, mac)
    present = {one.name for one in Path("/sys/class/net").iterdir()}
    assert tap_of(given_up) not in present
    assert tap_of(used) in present


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
