"""QEMU's own monitor, for what libvirt has no call for."""

import json
from typing import Any

import libvirt
import libvirt_qemu

from hypervisor.libvirt_errors import LibvirtError, explained


def ask(domain: libvirt.virDomain, command: str, **arguments: Any) -> Any:
    """What QEMU answers to `command` (https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html).

    libvirt marks the running domain as tainted. Raises `LibvirtError` when QEMU or libvirt refuses, or
    `Unavailable`.
    """
    with explained(f"{command} of domain {domain.name()}"):
        answer = libvirt_qemu.qemuMonitorCommand(
            domain, json.dumps({"execute": command, "arguments": arguments}), 0
        )
    said = json.loads(answer)
    if "error" in said:
        raise LibvirtError(f"{command} of domain {domain.name()}: {said['error'].get('desc')}")
    return said["return"]
