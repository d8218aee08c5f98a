"""What a libvirtd leaves in QEMU when it is killed while it begins to copy a disk.

Read in the source of libvirt 9.0, and seen: it opens the copy in QEMU, writes the job down, starts it, and
only then writes down where the job copies to. Killed in between, the next libvirtd has a job that its XML
does not show, or knows nothing of the open file, which no second attempt can open then.
"""

import logging
import time
from typing import Any

import libvirt
from lxml import etree

from hypervisor.domain import monitor
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import LibvirtError

log = logging.getLogger(__name__)

_END, _LOOK = 60.0, 0.05  # in seconds: how long the end of a job may take, and how often it is looked at
_OURS = "libvirt-"  # what libvirt names its nodes


def clear(domain: libvirt.virDomain, target: str) -> bool:
    """End a copy of the disk that libvirt does not show, and close what nothing uses; whether there was any.

    A node that something uses stays, as does a job of another kind. Raises `HypervisorError` when a job does
    not end, `LibvirtError`, or `libvirt.libvirtError`.
    """
    ended = _end_job(domain, target)
    closed = [node for node in _nodes(domain) if _close(domain, node)]
    if closed:
        log.warning("domain %s: closed %s, left by a libvirtd that ended", domain.name(), ", ".join(closed))
    return ended or bool(closed)


def _end_job(domain: libvirt.virDomain, target: str) -> bool:
    deadline = time.monotonic() + _END
    found = False
    while _hidden_job(domain, target):
        found = True
        try:
            domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC)
        except libvirt.libvirtError:
            # it may be about to end
            if time.monotonic() > deadline:
                raise HypervisorError(f"the job on {target} of domain {domain.name()} does not end") from None
        time.sleep(_LOOK)
    return found


def _hidden_job(domain: libvirt.virDomain, target: str) -> bool:
    job: dict[str, Any] = domain.blockJobInfo(target)
    if job.get("type") != libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY:
        return False
    return not _tree(domain).xpath("devices/disk[target/@dev=$target]/mirror", target=target)


def _nodes(domain: libvirt.virDomain) -> list[str]:
    """The nodes of libvirt's whose files are none of the domain's, a format before what it is stored in."""
    files = set(_tree(domain).xpath("devices/disk//source/@file"))
    nodes = monitor.ask(domain, "query-named-block-nodes", flat=True)
    names = [node["node-name"] for node in nodes if node["file"] not in files]
    return sorted((name for name in names if name.startswith(_OURS)), key=lambda name: not _is_format(name))


def _is_format(name: str) -> bool:
    return name.endswith("-format")


def _close(domain: libvirt.virDomain, node: str) -> bool:
    try:
        monitor.ask(domain, "blockdev-del", **{"node-name": node})
    except LibvirtError:
        return False  # in use
    return True


def _tree(domain: libvirt.virDomain) -> etree._Element:
    return etree.fromstring(domain.XMLDesc().encode())
