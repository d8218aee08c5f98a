"""The folder of a lab: what libvirt sees as /run/libvirt, /etc/libvirt, ..., and its configuration."""

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypervisor.lab.errors import LabError

#: Part of the lab's folder -> where the lab sees it.
PLACES = {
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "etc": "/etc/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
    # who has a console open, by process ids that are other processes elsewhere
    "lock": "/run/lock",
}

# Not /tmp: that is often memory, and disk images land here.
_TEMPORARY = Path("/var/tmp")  # noqa: S108 - mkdtemp makes the name, and the sweep checks the owner
_PREFIX = "hypervisor-lab-"
# What libvirt learned about each QEMU binary. It checks by itself whether an entry still holds (times and
# versions of QEMU, libvirt and kernel), so the store needs no key; every lab works on a copy of its own.
_CAPABILITIES = Path("/var/cache/hypervisor/lab/capabilities")
_SHARED = Path("/usr/share/libvirt")

_LIBVIRTD = """\
host_uuid = "{host_uuid}"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""
_VIRTLOGD = 'log_outputs = "3:file:/var/log/libvirt/virtlogd.log"\n'
_QEMU = """\
# A QEMU user that cannot open /dev/kvm makes libvirt probe QEMU again at every call; and root without its
# capabilities could not reach images below a home folder.
user = "root"
group = "root"
clear_emulator_capabilities = 0
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
# The lab is the namespace, and it has no control groups.
namespaces = [ ]
cgroup_controllers = [ ]
"""


@contextmanager
def opened(state: Path | None) -> Iterator[Path]:
    """The folder of a lab, held by a lock for the length of the block.

    Args:
        state: the folder to use and keep; None makes one that is removed at the end.

    Raises:
        LabError: another lab uses ``state``.
    """
    if state is None:
        _sweep()
        folder, descriptor = _temporary()
    else:
        folder = state.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        found = _locked(folder)
        if found is None:
            raise LabError(f"another lab uses {folder}")
        descriptor = found
    try:
        yield folder
    finally:
        if state is None:
            shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def prepare(folder: Path, hostname: str, host_uuid: uuid.UUID | None) -> uuid.UUID:
    """Make the parts of the folder, with libvirt's configuration; gives the host's UUID, which it keeps."""
    # Sockets, process ids and domain status of an earlier life mean nothing to this one.
    for part in ("run", "lock"):
        shutil.rmtree(folder / part, ignore_errors=True)
    for part in PLACES:
        (folder / part).mkdir(exist_ok=True)
    for part in ("lib/images", "cache/qemu", "etc/qemu/networks", "log/qemu"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    kept = folder / "host_uuid"
    identity = host_uuid or (uuid.UUID(kept.read_text().strip()) if kept.exists() else uuid.uuid4())
    kept.write_text(f"{identity}\n")
    etc = folder / "etc"
    (etc / "libvirtd.conf").write_text(_LIBVIRTD.format(host_uuid=identity))
    (etc / "virtlogd.conf").write_text(_VIRTLOGD)
    (etc / "qemu.conf").write_text(_QEMU)
    hosts = Path("/etc/hosts").read_text() if Path("/etc/hosts").exists() else "127.0.0.1 localhost\n"
    # Else everything that looks its own host name up (sudo, libvirt at a migration) asks a name server in
    # vain.
    (folder / "hosts").write_text(f"{hosts.rstrip()}\n127.0.1.1 {hostname}\n")
    # What a distribution's package brings; the host's own domains and networks are not copied.
    if not (etc / "nwfilter").exists() and (_SHARED / "nwfilter").is_dir():
        shutil.copytree(_SHARED / "nwfilter", etc / "nwfilter")
        shutil.copytree(_SHARED / "networks", etc / "qemu" / "networks", dirs_exist_ok=True)
    if _CAPABILITIES.is_dir():
        shutil.copytree(_CAPABILITIES, folder / "cache/qemu/capabilities", dirs_exist_ok=True)
    return identity


def keep_capabilities(folder: Path) -> None:
    """Put what libvirt learned about QEMU in this lab where the next lab finds it."""
    _CAPABILITIES.mkdir(parents=True, exist_ok=True)
    for path in (folder / "cache/qemu/capabilities").glob("*.xml"):
        kept = _CAPABILITIES / path.name
        if kept.exists() and kept.stat().st_mtime_ns == path.stat().st_mtime_ns:
            continue
        fresh = kept.with_name(f".{path.name}.{os.getpid()}")
        shutil.copy2(path, fresh)
        fresh.replace(kept)


def _locked(folder: Path) -> int | None:
    # A lock on the folder itself also keeps systemd-tmpfiles from ageing what is in it.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _temporary() -> tuple[Path, int]:
    # Locked under a name that no sweep looks at, then renamed: a folder that a sweep sees unlocked is an
    # orphan.
    raw = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=_TEMPORARY))
    descriptor = _locked(raw)
    if descriptor is None:
        raise LabError(f"something else has locked {raw}")
    return raw.rename(raw.with_name(raw.name.removeprefix("."))), descriptor


def _sweep() -> None:
    """Remove the temporary folders of labs that were killed."""
    for folder in _TEMPORARY.glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            descriptor = _locked(folder)
        except OSError:
            continue
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
