"""A real guest whose agent answers, and one whose agent has stopped answering."""

import json
import subprocess
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from api.settings import Settings
from hypervisor.domain import devices, freeze, power
from hypervisor.domain.freeze import frozen
from hypervisor.domain.spec import DiskSpec, DomainSpec
from tests.domain.conftest import NewSpec

pytestmark = [pytest.mark.lab, pytest.mark.guest]

CONNECTED = libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED


def status(domain: libvirt.virDomain) -> str:
    """Whether the guest's file systems are frozen, as its agent says."""
    said = libvirt_qemu.qemuAgentCommand(domain, '{"execute": "guest-fsfreeze-status"}', 5, 0)
    return str(json.loads(said)["return"])


@pytest.fixture
def guest(connection: libvirt.virConnect, new_spec: NewSpec, tmp_path: Path) -> DomainSpec:
    """A guest with a running agent."""
    image = Settings().images / "tiny.qcow2"
    if not image.exists():
        pytest.skip(f"there is no {image}: make image")
    overlay = tmp_path / "disk.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image.resolve(), overlay], check=True
    )
    spec = new_spec(memory=256, max_memory=256, disks=(DiskSpec("ua-d", overlay, "vda", boot=1),))
    power.define(connection, spec)
    connected: SimpleQueue[int] = SimpleQueue()

    def report(_c: Any, _domain: libvirt.virDomain, state: int, _reason: int, _opaque: Any) -> None:
        if state == CONNECTED:
            connected.put(state)

    number = connection.domainEventRegisterAny(
        power.lookup(connection, spec.uuid), libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, report, None
    )
    power.start(connection, spec.uuid)
    connected.get(timeout=60)
    connection.domainEventDeregisterAny(number)
    return spec


def test_frozen_for_the_moment_of_the_copy(
    connection: libvirt.virConnect, guest: DomainSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = power.lookup(connection, guest.uuid)
    assert status(domain) == "thawed"
    with frozen(domain):
        assert status(domain) == "frozen"
    assert status(domain) == "thawed"
    with pytest.raises(ValueError, match="inside"), frozen(domain):
        raise ValueError("inside")
    assert status(domain) == "thawed"

    copy = tmp_path / "copy.qcow2"
    size = str(domain.blockInfo("vda")[0])
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", copy, size], check=True)
    devices.copy_disk(connection, guest.uuid, guest.disks[0].path, copy)
    assert status(domain) == "thawed"
    subprocess.run(["qemu-img", "check", "-q", copy], check=True)

    # an agent that is there and says nothing: the machine stands still
    monkeypatch.setattr(freeze, "_PATIENCE", 1)
    domain.suspend()
    begun = time.monotonic()
    devices.copy_disk(connection, guest.uuid, guest.disks[0].path, copy)
    assert time.monotonic() - begun < 8
    domain.resume()
    assert status(domain) == "thawed"
