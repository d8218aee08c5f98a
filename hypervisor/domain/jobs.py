"""The block job of a running domain's disk: found, waited for, ended."""

import contextlib
import logging
import threading
import time
from pathlib import Path

import libvirt
from lxml import etree

from hypervisor.domain.power import lookup
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import Unavailable, explained

log = logging.getLogger(__name__)

# all in seconds
_LOOK = 1.0  # how often another's job is looked at
_END = 60.0  # how long the end of a job may take
_RETURN = 30.0  # how long a libvirt that went away is waited for, to end the job


def target_of(domain: libvirt.virDomain, path: Path) -> str:
    """The device name of the domain's disk at `path`; raises `HypervisorError`."""
    for disk in tree_of(domain).iterfind("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        if source is not None and target is not None and source.get("file") == str(path):
            return target.get("dev", "")
    raise HypervisorError(f"domain {domain.name()} does not use {path}")


def tree_of(domain: libvirt.virDomain) -> etree._Element:
    return etree.fromstring(domain.XMLDesc().encode())


def mirror_of(domain: libvirt.virDomain, target: str) -> etree._Element | None:
    """The job of the disk, as the live XML has it."""
    for disk in tree_of(domain).iterfind("devices/disk[mirror]"):
        if disk.find(f"target[@dev='{target}']") is not None:
            return disk.find("mirror")
    return None


def clear(
    connection: libvirt.virConnect, domain: libvirt.virDomain, target: str, copy: Path, patience: float
) -> None:
    """End what an earlier attempt to copy the disk to `copy` left, or to a volume that is gone; wait up to
    `patience` seconds for any other job. Raises `HypervisorError`."""
    deadline = time.monotonic() + patience
    while (mirror := mirror_of(domain, target)) is not None:
        file = Path(mirror.get("file", ""))
        if file in (copy, Path()) or (file.parent == copy.parent and not _is_volume(connection, file)):
            abandon(domain, target, file)
        elif time.monotonic() > deadline:
            raise HypervisorError(
                f"domain {domain.name()} is still copying {target} to {file}: "
                f"wait for it, or end it with virsh blockjob {domain.name()} {target} --abort"
            )
        else:
            time.sleep(_LOOK)


def _is_volume(connection: libvirt.virConnect, file: Path) -> bool:
    try:
        connection.storageVolLookupByPath(str(file))
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
            raise
        return False
    return True


def abandon(domain: libvirt.virDomain, target: str, copy: Path) -> None:
    """End the disk's job if it writes to `copy`, and wait for its end."""
    deadline = time.monotonic() + _END
    # a job that is about to end names no file any more
    while (mirror := mirror_of(domain, target)) is not None and mirror.get("file", "") in ("", str(copy)):
        # it may be about to end by itself, or the machine may have
        with contextlib.suppress(libvirt.libvirtError):
            domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC)
        if time.monotonic() > deadline:
            raise HypervisorError(f"the job on {target} of domain {domain.name()} does not end")
        time.sleep(0.05)


def clean(connection: libvirt.virConnect, uri: str, uuid: str, target: str, copy: Path) -> None:
    """Leave the domain without our job, through a new connection when the old one broke."""
    try:
        with explained("end of the copy"):
            abandon(lookup(connection, uuid), target, copy)
    except Unavailable:
        # a thread, because nothing limits the time that opening takes
        anew = threading.Thread(target=_clean_anew, args=(uri, uuid, target, copy), daemon=True)
        anew.start()
        anew.join(_RETURN)
    except HypervisorError as error:
        log.warning("domain %s: %s", uuid, error)


def _clean_anew(uri: str, uuid: str, target: str, copy: Path) -> None:
    deadline = time.monotonic() + _RETURN
    while True:
        try:
            with explained("end of the copy"):
                abandon(lookup(libvirt.open(uri), uuid), target, copy)
        except HypervisorError as error:
            if not isinstance(error, Unavailable) or time.monotonic() > deadline:
                log.warning("domain %s: %s; the next copy of its disk ends the job", uuid, error)
                return
            time.sleep(0.1)
        else:
            return
