"""The block job of a running domain's disk: found, waited for, ended."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import libvirt
from lxml import etree
from lxml.builder import E

from hypervisor.domain import leftovers
from hypervisor.domain.live import mirror_of, tree_of
from hypervisor.domain.power import lookup
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import NoDomain, Unavailable, explained

log = logging.getLogger(__name__)

FLAGS = (
    libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT
    | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
    # a guest that writes faster than the mirror would never let it end
    | libvirt.VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES
)
# what libvirt says of a disk that has leftovers: QEMU cannot open the copy, or there is a job already
_LEFT = (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_OPERATION_UNSUPPORTED)
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


def start(
    domain: libvirt.virDomain, target: str, copy: Path, form: str = "qcow2", bandwidth: int = 0
) -> None:
    """Begin to mirror the disk into the existing volume `copy` of format `form`, at `bandwidth` bytes/s at
    most; 0 is unlimited. What the volume held is overwritten, and what a libvirtd left that was killed in
    this is ended."""
    try:
        _start(domain, target, copy, form, bandwidth)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in _LEFT or not leftovers.end_copy(domain, target):
            raise
        _start(domain, target, copy, form, bandwidth)


def _start(domain: libvirt.virDomain, target: str, copy: Path, form: str, bandwidth: int) -> None:
    destination = E.disk(E.source(file=str(copy)), E.driver(type=form), type="file")
    limits = {"bandwidth": bandwidth} if bandwidth else None
    domain.blockCopy(target, etree.tostring(destination, encoding="unicode"), limits, FLAGS)


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
    """End the disk's job if it writes to `copy`, also when the disk is gone, and wait for its end."""
    deadline = time.monotonic() + _END
    # a job that is about to end names no file any more
    while (mirror := mirror_of(domain, target)) is not None and mirror.get("file", "") in ("", str(copy)):
        # it may be about to end by itself, or the machine may have
        with contextlib.suppress(libvirt.libvirtError):
            domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC)
        if time.monotonic() > deadline:
            raise HypervisorError(f"the job on {target} of domain {domain.name()} does not end")
        time.sleep(0.05)
    leftovers.end_orphans(domain, target)


def clean(connection: libvirt.virConnect, uri: str, uuid: str, target: str, copy: Path) -> None:
    """Leave the domain without our job, through a new connection when the old one broke."""
    insist(connection, uri, uuid, lambda domain: abandon(domain, target, copy))


def insist(
    connection: libvirt.virConnect, uri: str, uuid: str, action: Callable[[libvirt.virDomain], None]
) -> bool:
    """Do what must be done at the end of a job, through a new connection when the old one broke; whether it
    was done. What fails is logged."""
    try:
        with explained("end of a job"):
            action(lookup(connection, uuid))
    except Unavailable:
        done = threading.Event()
        # a thread, because nothing limits the time that opening takes
        anew = threading.Thread(target=_insist_anew, args=(uri, uuid, action, done), daemon=True)
        anew.start()
        anew.join(_RETURN)
        return done.is_set()
    except NoDomain:
        return True
    except HypervisorError as error:
        log.warning("domain %s: %s", uuid, error)
        return False
    return True


def _insist_anew(
    uri: str, uuid: str, action: Callable[[libvirt.virDomain], None], done: threading.Event
) -> None:
    deadline = time.monotonic() + _RETURN
    while not done.is_set():
        try:
            with explained("end of a job"):
                action(lookup(libvirt.open(uri), uuid))
            done.set()
        except HypervisorError as error:
            if not isinstance(error, Unavailable) or time.monotonic() > deadline:
                log.warning("domain %s: %s; the next job of its disks does it", uuid, error)
                return
            time.sleep(0.1)
