"""A disk of a running domain copied as it is at one moment.

libvirt mirrors the disk until the mirror is complete; ending the mirror then leaves a copy of that instant
(https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainBlockCopy). Its reports may be lost, and none
comes when the machine dies, so the domain's XML is looked at too.
"""

import contextlib
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt

from hypervisor.domain import jobs
from hypervisor.domain.freeze import frozen
from hypervisor.domain.live import mirror_of
from hypervisor.domain.power import lookup
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import explained

# all in seconds
_LOOK = 1.0  # how often the job is looked at
_END = 60.0  # how long the end of a job may take

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
        uri, target = connection.getURI(), jobs.target_of(domain, source)
        jobs.clear(connection, domain, target, copy, patience)
        with _reported(connection, domain, target) as reports:
            try:
                jobs.start(domain, target, copy)
                _wait_until_complete(domain, target, reports, patience)
                with frozen(domain):
                    domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC)
                    _wait_until_ended(domain, target, reports)
            except BaseException:
                jobs.clean(connection, uri, uuid, target, copy)
                raise


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
        mirror = mirror_of(domain, target)
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
            status is None and mirror_of(domain, target) is None
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
