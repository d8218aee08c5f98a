"""The switch from the disks to their copies."""

from collections.abc import Sequence

import libvirt

from hypervisor.domain import jobs, standstill
from hypervisor.domain.mirror.view import Disk, Mirror, MirrorLost, lost, running, settled
from hypervisor.errors import HypervisorError

# asked of all disks before any is waited for: the machine stands still no longer than the slowest takes
_PIVOT = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT | libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC


def switch(connection: libvirt.virConnect, uuid: str, mirrors: Sequence[Mirror]) -> None:
    """Let the domain use the copies from now on: all of them at one moment, for which its processors stand
    still. They go on afterwards, unless they stood still before; a switch that was cut short is finished.

    libvirt changes the definition for the next start as well, unless a disk has another target there: see
    `places`.

    Raises `MachineStopped`, and `MirrorLost` or `HypervisorError` when a disk did not move: the text says
    where each is, and every disk that has not moved is still mirrored, but for one that lost its mirror.
    """
    with running(connection, uuid, "switch to the mirrors") as domain:
        uri = connection.getURI()
        try:
            waiting = _ready(connection, domain, mirrors)
            if waiting:
                standstill.hold(domain)
                _pivot(connection, domain, waiting, mirrors)
        finally:
            if not jobs.insist(connection, uri, uuid, standstill.let_go):
                raise HypervisorError(
                    f"domain {uuid} may stand still: repeat the switch, or run virsh resume {uuid}"
                )


def _ready(
    connection: libvirt.virConnect, domain: libvirt.virDomain, mirrors: Sequence[Mirror]
) -> list[Disk]:
    """The disks to be switched, when all of them can be."""
    waiting = [disk for disk in settled(domain, mirrors) if not disk.moved]
    for disk in waiting:
        if not disk.mirrored:
            raise lost(connection, domain, disk)
        if disk.state != "yes":
            raise HypervisorError(
                f"the copy of {disk.target} of domain {domain.name()} is not complete: wait until it is"
            )
    return waiting


def _pivot(
    connection: libvirt.virConnect,
    domain: libvirt.virDomain,
    waiting: Sequence[Disk],
    mirrors: Sequence[Mirror],
) -> None:
    refusal = ""
    for disk in waiting:
        try:
            domain.blockJobAbort(disk.target, _PIVOT)
        except libvirt.libvirtError as error:
            # those that were asked for before come about all the same
            refusal = f" ({disk.target}: {error.get_error_message()})"
            break
    disks = settled(domain, mirrors)
    stayed = [disk for disk in disks if not disk.moved]
    if not stayed:
        return
    where = ", ".join(f"{disk.target} is on {disk.path}" for disk in disks)
    for disk in stayed:
        if disk.file is None:
            raise MirrorLost(f"{lost(connection, domain, disk)}. Now {where}{refusal}")
    raise HypervisorError(
        f"domain {domain.name()} was not switched as a whole{refusal}: {where}. "
        "Repeat the switch, or abandon the other mirrors"
    )
