"""A domain as its live XML has it."""

import libvirt
from lxml import etree


def tree_of(domain: libvirt.virDomain) -> etree._Element:
    """The live XML of a running domain, parsed; raises `libvirt.libvirtError`."""
    return etree.fromstring(domain.XMLDesc().encode())


def mirror_of(domain: libvirt.virDomain, target: str) -> etree._Element | None:
    """The block job of the disk `target` (`vda`, …), None when there is none that libvirt shows; raises
    `libvirt.libvirtError`."""
    for disk in tree_of(domain).iterfind("devices/disk[mirror]"):
        if disk.find(f"target[@dev='{target}']") is not None:
            return disk.find("mirror")
    return None
