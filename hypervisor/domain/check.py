"""What a domain's values must be for libvirt to take them, and to give them back unchanged."""

import re
import uuid

from hypervisor.domain.spec import DiskSpec, DomainSpec, InterfaceSpec
from hypervisor.errors import HypervisorError

# libvirt gives line ends and tabs back as spaces; control characters XML cannot carry at all
_NOT_LINE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\ufffe\uffff]")
_NAME = re.compile(r"(?=.*\S)[^/]+")
_PATH = re.compile(r"/.+")
_ALIAS = re.compile(r"ua-[A-Za-z0-9_-]+")
_TARGET = re.compile(r"vd[a-z]+")
_FORMAT = re.compile(r"[a-z0-9]+")
# QEMU cuts the serial number of a virtio disk after 20 characters
_SERIAL = re.compile(r"[A-Za-z0-9_.+ -]{1,20}")
# a multicast address has the lowest bit of its first byte set
_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")
_LABEL = re.compile(r"(?!xml)[A-Za-z_][A-Za-z0-9_.-]*")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class SpecError(HypervisorError, ValueError):
    """A value cannot be part of a domain; the text names the field."""


def check_domain(spec: DomainSpec) -> None:
    """Raise `SpecError` for what libvirt would refuse, lose or change, the devices apart.

    What text XML can carry: https://www.w3.org/TR/xml/#charsets
    """
    _line("name", spec.name, _NAME)
    _must("uuid", spec.uuid, _canonical(spec.uuid))
    if spec.console_log is not None:
        _line("console_log", str(spec.console_log), _PATH)
    _must("vcpus", spec.vcpus, 1 <= spec.vcpus <= spec.max_vcpus)
    _must("memory", spec.memory, 1 <= spec.memory <= spec.max_memory)
    _must("hotplug_ports", spec.hotplug_ports, spec.hotplug_ports >= 0)
    for key, value in spec.labels.items():
        _must("labels", key, _LABEL.fullmatch(key) is not None)
        _must(f"labels[{key}]", value, _NOT_XML.search(value) is None)
    # libvirt indents what stands between elements: a text keeps no line ends at its edges
    _must("notes", spec.notes, _NOT_LINE.search(spec.notes) is None and spec.notes == spec.notes.strip())


def check_disk(disk: DiskSpec) -> None:
    """As `check_domain`, for a disk."""
    _line("alias of a disk", disk.alias, _ALIAS)
    _line("path of a disk", str(disk.path), _PATH)
    _line("target of a disk", disk.target, _TARGET)
    _line("format of a disk", disk.format, _FORMAT)
    if disk.serial is not None:
        _line("serial of a disk", disk.serial, _SERIAL)
    _must("boot of a disk", disk.boot, disk.boot is None or disk.boot > 0)


def check_interface(interface: InterfaceSpec) -> None:
    """As `check_domain`, for an interface."""
    _line("alias of an interface", interface.alias, _ALIAS)
    _line("mac of an interface", interface.mac, _MAC)
    _line("network of an interface", interface.network, _NAME)


def _line(field: str, value: str, pattern: re.Pattern[str]) -> None:
    _must(field, value, _NOT_LINE.search(value) is None and pattern.fullmatch(value) is not None)


def _canonical(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _must(field: str, value: object, holds: bool) -> None:
    if not holds:
        raise SpecError(f"a domain cannot have the {field} {value!r}")
