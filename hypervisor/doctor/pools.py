"""A storage pool: whether it is active, where it should be, has space, and QEMU can get into it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import libvirt
from lxml import etree

from hypervisor.doctor import space
from hypervisor.doctor.finding import Finding, command, ok, problem, virsh, warning
from hypervisor.doctor.host import is_root
from hypervisor.libvirt_errors import explained
from hypervisor.storage.pool import folder

_AS_ROOT = "sudo hypervisor doctor"


def examine(connection: libvirt.virConnect, name: str, path: Path, restart: str) -> Iterator[Finding]:
    """Look at the pool `name`, which should be in `path`; `restart` makes one that is missing.

    Ends after the first problem that the others follow from. Raises `LibvirtError`.
    """
    subject = f"pool {name}"
    uri = connection.getURI()
    with explained(subject):
        try:
            pool = connection.storagePoolLookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise
            yield problem(subject, "libvirt does not know it: the start of the service makes it", restart)
            return
        found = folder(pool)
        if found != str(path):
            yield problem(
                subject,
                f"it is kept in {found}, not in {path}: it is not the service's; "
                "give the datacenter another pool name in the settings",
            )
            return
        if not pool.isActive():
            yield problem(subject, "it is stopped", virsh(uri, "pool-start", name))
            return
        if not pool.autostart():
            yield warning(subject, "it is not started with libvirt", virsh(uri, "pool-autostart", name))
        obstacle, way = (None, "") if urlsplit(uri).hostname else _passage(subject, connection, path)
        if obstacle is not None:
            yield obstacle
        yield _space(subject, pool, path, way)


def _space(subject: str, pool: libvirt.virStoragePool, path: Path, way: str) -> Finding:
    pool.refresh()
    _, size, _, free = pool.info()
    return space.want(subject, path, size, free) or ok(
        subject, f"active, {space.told(path, size, free)}{way}"
    )


def _passage(subject: str, connection: libvirt.virConnect, path: Path) -> tuple[Finding | None, str]:
    """What keeps the user that QEMU runs as from passing through all folders down to the pool; else who gets
    there."""
    with explained("capabilities"):
        owner = _qemu_user(connection.getCapabilities())
    if owner is None or owner[0] == 0:
        return None, "; QEMU runs as root"
    user, group = owner
    if not is_root():
        return warning(subject, f"only root can tell whether QEMU's user {user} gets in", _AS_ROOT), ""
    for one in (*reversed(path.parents), path):
        # asked of the kernel as that user: modes, ACLs and all
        passes = subprocess.run(
            ["test", "-x", one], user=user, group=group, extra_groups=[], cwd="/", check=False
        )
        if passes.returncode:
            said = f"QEMU's user {user} may not pass through {one}: no machine can open its disk"
            return problem(subject, said, command("chmod", "o+x", one)), ""
    return None, f"; QEMU's user {user} gets in"


def _qemu_user(capabilities: str) -> tuple[int, int] | None:
    """User and group as the driver `dac` says them: ``+64055:+109``."""
    for model in etree.fromstring(capabilities.encode()).iterfind("host/secmodel"):
        if model.findtext("model") == "dac":
            user, _, group = (model.findtext("baselabel") or "").partition(":")
            return int(user.lstrip("+")), int(group.lstrip("+") or 0)
    return None
