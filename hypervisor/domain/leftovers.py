"""What is left in QEMU and in the host by a libvirtd that was killed while it plugged a device in or began to
copy a disk, and by a disk that left its machine while it was copied.

Read in the source of libvirt 9.0, and seen: it opens the file in QEMU, writes the copy's job down, starts it,
and only then writes down where that copies to. The next libvirtd knows nothing of an open file, which no
second attempt can open then, nor can the next disk have its name; or it has a job that its XML does not show.
"""

import contextlib
import logging
import re
import time

import libvirt

from hypervisor.domain import monitor
from hypervisor.domain.live import mirror_of, tree_of
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import LibvirtError, explained
from hypervisor.network import bridge
from hypervisor.network.addresses import tap_of
from hypervisor.network.survey import remove_tap

log = logging.getLogger(__name__)

_END, _LOOK = 60.0, 0.05  # in seconds: how long the end of a job may take, and how often it is looked at
# the blockdev nodes that libvirt makes: a file, and the format upon it
_NODE = re.compile(r"libvirt-(\d+)-(format|storage)")


def drop(domain: libvirt.virDomain) -> bool:
    """Remove the nodes that libvirt does not know and nothing uses; whether there were any.

    Raises `LibvirtError` or `Unavailable`.
    """
    with explained(f"leftovers in domain {domain.name()}"):
        known = {source.get("index") for source in tree_of(domain).iterfind("devices//source[@index]")}
        nodes = monitor.ask(domain, "query-named-block-nodes", flat=True)
        names = [one["node-name"] for one in nodes]
        unknown = [one for one in names if (match := _NODE.fullmatch(one)) and match[1] not in known]
        # the format first: it holds its file
        dropped = [one for one in sorted(unknown) if _delete(domain, one)]
    if dropped:
        log.warning("domain %s: closed %s, which libvirt knows nothing of", domain.name(), ", ".join(dropped))
    return bool(dropped)


def _delete(domain: libvirt.virDomain, node: str) -> bool:
    try:
        monitor.ask(domain, "blockdev-del", **{"node-name": node})
    except LibvirtError:
        return False  # in use
    return True


def drop_interface(connection: libvirt.virConnect, domain: libvirt.virDomain, alias: str, mac: str) -> bool:
    """Remove the tap and QEMU's end of it for an interface that libvirt does not know; whether there was
    any. A tap that a domain uses stays. Raises `HypervisorError`.
    """
    tap = tap_of(mac)
    with explained(f"leftovers in domain {domain.name()}"):
        running = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        if any(tap in bridge.taps(one.XMLDesc()).values() for one in running):
            return False
    dropped = remove_tap(tap)
    try:
        # the name that libvirt gives it (qemuAliasNetdev)
        monitor.ask(domain, "netdev_del", id=f"host{alias}")
    except LibvirtError:
        pass  # there is none, or a device uses it
    else:
        dropped = True
    if dropped:
        log.warning("domain %s: removed %s, left by a libvirtd that ended", domain.name(), tap)
    return dropped


def end_copy(domain: libvirt.virDomain, target: str) -> bool:
    """End a copy of the disk that libvirt does not show, and what else there is; whether there was anything.

    A job of another kind goes on. Raises `HypervisorError` when the job does not end.
    """
    deadline = time.monotonic() + _END
    found = False
    while _has_hidden_copy(domain, target):
        found = True
        try:
            domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC)
        except libvirt.libvirtError:
            # it may be about to end
            if time.monotonic() > deadline:
                raise HypervisorError(f"the job on {target} of domain {domain.name()} does not end") from None
        time.sleep(_LOOK)
    return drop(domain) or found


def end_orphans(domain: libvirt.virDomain, target: str) -> None:
    """End the copies of a disk that left the running machine in their middle, and let go of its files: QEMU
    goes on with them, and no call of libvirt reaches them any more.

    Raises `HypervisorError` when one does not end.
    """
    if not domain.isActive() or tree_of(domain).xpath("devices/disk[target/@dev=$target]", target=target):
        return
    deadline = time.monotonic() + _END
    while orphans := _copies_of(domain, target):
        for one in orphans:
            # it may be about to end
            with contextlib.suppress(LibvirtError):
                monitor.ask(domain, "block-job-cancel", device=one, force=True)
        if time.monotonic() > deadline:
            raise HypervisorError(f"{orphans[0]} of domain {domain.name()} does not end")
        time.sleep(_LOOK)
    drop(domain)


def _copies_of(domain: libvirt.virDomain, target: str) -> list[str]:
    names = [one["device"] for one in monitor.ask(domain, "query-block-jobs")]
    # the name that libvirt gives them (qemuBlockJobDiskNewCopy)
    return [one for one in names if one.startswith(f"copy-{target}-")]


def _has_hidden_copy(domain: libvirt.virDomain, target: str) -> bool:
    kind = domain.blockJobInfo(target).get("type")
    return kind == libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY and mirror_of(domain, target) is None
