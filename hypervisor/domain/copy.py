"""A disk of a running domain copied as it is at one moment.

libvirt mirrors the disk until the mirror is complete; ending the mirror then leaves a copy of that instant
(https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainBlockCopy). Its reports may be lost, and none
comes when the machine dies, so the domain's XML is looked at too.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
from lxml import etree
from lxml.builder import E

from hypervisor.domain.power import lookup
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import Unavailable, explained

log = logging.getLogger(__name__)

_FLAGS = (
    libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT
    | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
    # a guest that writes faster than the mirror would never let it end
    | libvirt.VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES
)
# all in seconds
_LOOK = 1.0  # how often the job is looked at
_END = 60.0  # how long the end of a job may take
_RETURN = 30.0  # how long a libvirt that went away is waited for, to end the job
_AGENT = 5  # how long the guest's agent may take to freeze

Reports = queue.SimpleQueue[int]


def copy_disk(
    connection: libvirt.virConnect, uuid: str, source: Path, copy: Path, patience: float = 300.0
) -> None:
    """Copy the disk at `source` of a running domain into the existing qcow2 volume `copy`, as it is at one
    moment.

    The guest goes on writing; the copy ends at the moment when it is complete. File systems are frozen for
    that moment when the guest's agent answers. What an earlier attempt left is ended first, and another copy
    of the disk is waited for.

    Raises `HypervisorError` when the job fails, the machine stops, or nothing moves for `patience` seconds;
    the domain then has no job any more.
    """
    domain = lookup(connection, uuid)
    with explained(f"copy of {source.name}"):
        uri, target = connection.getURI(), target_of(domain, source)
        _clear(connection, domain, target, copy, patience)
        with _reported(connection, domain, target) as reports:
            try:
                destination = E.disk(E.source(file=str(copy)), E.driver(type="qcow2"), type="file")
                domain.blockCopy(target, etree.tostring(destination, encoding="unicode"), None, _FLAGS)
                _wait_until_complete(domain, target, reports, patience)
                with _frozen(domain):
                    domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC)
                    _wait_until_ended(domain, target, reports)
            except BaseException:
                _clean(connection, uri, uuid, target, copy)
                raise


def target_of(domain: libvirt.virDomain, path: Path) -> str:
    """The device name of the domain's disk at `path`; raises `HypervisorError`."""
    for disk in _tree(domain).iterfind("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        if source is not None and target is not None and source.get("file") == str(path):
            return target.get("dev", "")
    raise HypervisorError(f"domain {domain.name()} does not use {path}")


def _tree(domain: libvirt.virDomain) -> etree._Element:
    return etree.fromstring(domain.XMLDesc().encode())


def _mirror(domain: libvirt.virDomain, target: str) -> etree._Element | None:
    """The job of the disk, as the live XML has it."""
    for disk in _tree(domain).iterfind("devices/disk[mirror]"):
        if disk.find(f"target[@dev='{target}']") is not None:
            return disk.find("mirror")
    return None


def _clear(
    connection: libvirt.virConnect, domain: libvirt.virDomain, target: str, copy: Path, patience: float
) -> None:
    deadline = time.monotonic() + patience
    while (mirror := _mirror(domain, target)) is not None:
        file = Path(mirror.get("file", ""))
        if file in (copy, Path()) or (file.parent == copy.parent and not _is_volume(connection, file)):
            _abandon(domain, target, file)
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


@contextlib.contextmanager
def _reported(connection: libvirt.virConnect, domain: libvirt.virDomain, target: str) -> Iterator[Reports]:
    reports: Reports = queue.SimpleQueue()

    def report(_c: Any, _domain: libvirt.virDomain, disk: str, _kind: int, status: int, _opaque: Any) -> None:
        if disk == target:
            reports.put(status)

    number = connection.domainEventRegisterAny(domain, libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, report, None)
    try:
        yield reports
    finally:
        with contextlib.suppress(libvirt.libvirtError):  # the connection may have broken
            connection.domainEventDeregisterAny(number)


def _next(reports: Reports) -> int | None:
    try:
        return reports.get(timeout=_LOOK)
    except queue.Empty:
        return None


def _wait_until_complete(domain: libvirt.virDomain, target: str, reports: Reports, patience: float) -> None:
    copied, deadline = -1, time.monotonic() + patience
    while True:
        status = _next(reports)
        mirror = _mirror(domain, target)
        if status not in (None, libvirt.VIR_DOMAIN_BLOCK_JOB_READY) or mirror is None:
            raise _failure(domain, status)
        if mirror.get("ready") == "yes":
            return
        now = int(domain.blockJobInfo(target).get("cur", 0))
        if now > copied:
            copied, deadline = now, time.monotonic() + patience
        elif time.monotonic() > deadline:
            raise HypervisorError(
                f"the copy did not move for {patience:.0f} seconds: does the storage answer?"
            )


def _wait_until_ended(domain: libvirt.virDomain, target: str, reports: Reports) -> None:
    deadline = time.monotonic() + _END
    while True:
        status = _next(reports)
        if status in (libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED, libvirt.VIR_DOMAIN_BLOCK_JOB_COMPLETED):
            return
        # without a report nobody knows whether the copy is whole
        if status == libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED or (
            status is None and _mirror(domain, target) is None
        ):
            raise _failure(domain, status)
        if time.monotonic() > deadline:
            raise HypervisorError(f"the copy did not end within {_END:.0f} seconds: does the storage answer?")


def _failure(domain: libvirt.virDomain, status: int | None) -> HypervisorError:
    if not domain.isActive():
        return HypervisorError(f"domain {domain.name()} stopped before the copy was complete: repeat it")
    if status == libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED:
        return HypervisorError(f"somebody else ended the copy in domain {domain.name()}: repeat it")
    return HypervisorError(f"QEMU ended the copy in domain {domain.name()}: is there space in the pool?")


def _abandon(domain: libvirt.virDomain, target: str, copy: Path) -> None:
    """End the disk's job if it writes to `copy`, and wait for its end."""
    deadline = time.monotonic() + _END
    # a job that is about to end names no file any more
    while (mirror := _mirror(domain, target)) is not None and mirror.get("file", "") in ("", str(copy)):
        # it may be about to end by itself, or the machine may have
        with contextlib.suppress(libvirt.libvirtError):
            domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC)
        if time.monotonic() > deadline:
            raise HypervisorError(f"the job on {target} of domain {domain.name()} does not end")
        time.sleep(0.05)


def _clean(connection: libvirt.virConnect, uri: str, uuid: str, target: str, copy: Path) -> None:
    """Leave the domain without our job, through a new connection when the old one broke."""
    try:
        with explained("end of the copy"):
            _abandon(lookup(connection, uuid), target, copy)
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
                _abandon(lookup(libvirt.open(uri), uuid), target, copy)
        except HypervisorError as error:
            if not isinstance(error, Unavailable) or time.monotonic() > deadline:
                log.warning("domain %s: %s; the next copy of its disk ends the job", uuid, error)
                return
            time.sleep(0.1)
        else:
            return


@contextlib.contextmanager
def _frozen(domain: libvirt.virDomain) -> Iterator[None]:
    """The guest's file systems at rest, when its agent answers."""
    channels = _tree(domain).iterfind("devices/channel/target[@name='org.qemu.guest_agent.0']")
    if not any(channel.get("state") == "connected" for channel in channels):
        yield
        return
    try:
        domain.agentSetResponseTimeout(_AGENT, 0)
        domain.fsFreeze()
    except libvirt.libvirtError as error:
        log.info("domain %s is copied without a freeze: %s", domain.name(), error)
    try:
        yield
    finally:
        # also after a freeze that came too late to be waited for
        with contextlib.suppress(libvirt.libvirtError):
            domain.fsThaw()
        with contextlib.suppress(libvirt.libvirtError):
            domain.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0)
