"""The inside of a lab's namespaces: mounts, loopback interface, network settings, host name."""

import errno
import fcntl
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

from hypervisor.lab import record
from hypervisor.lab.folders import PLACES
from hypervisor.lab.syscalls import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    NEW_MOUNT,
    NEW_NET,
    NEW_UTS,
    detach,
    mount,
    unshare,
)

# Hidden: through the host's message bus libvirt would register its machines with the host's systemd and have
# the host's firewalld change its rules; and other labs' run files name processes that do not exist in here.
_HIDDEN = ("/run/dbus", str(record.FOLDER))

_NETWORK = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/default/disable_ipv6": "0",
    "ipv6/conf/all/forwarding": "1",
    # Nobody else is on these bridges: looking for a duplicate address would delay each network's start.
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    # Where the module is loaded, frames between ports of one bridge would go through the IP filters.
    "bridge/bridge-nf-call-iptables": "0",
    "bridge/bridge-nf-call-ip6tables": "0",
}

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def build(folder: Path, hostname: str) -> None:
    """Move this process, already PID 1 of a new PID namespace, into new mount, network and UTS namespaces.

    Raises:
        OSError: the kernel refuses one of the steps; the message names it.
    """
    here = Path.cwd()
    unshare(NEW_MOUNT | NEW_NET | NEW_UTS)
    # Slave, not private: nothing leaves the lab, yet what the host unmounts does not stay busy because of it.
    mount("none", "/", None, MS_REC | MS_SLAVE)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _remount_sys()
    for part, place in PLACES.items():
        Path(place).mkdir(parents=True, exist_ok=True)
        mount(str(folder / part), place, None, MS_BIND)
    if Path("/etc/hosts").exists():
        mount(str(folder / "hosts"), "/etc/hosts", None, MS_BIND)
    for place in _HIDDEN:
        if Path(place).is_dir():
            mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    with suppress(OSError):
        os.chdir(here)  # where that lies below one of the new mounts
    socket.sethostname(hostname)
    _loopback_up()
    for name, value in _NETWORK.items():
        setting = Path("/proc/sys/net", name)
        if setting.exists():
            setting.write_text(value)


def _remount_sys() -> None:
    # sysfs shows the network interfaces of the namespace it was mounted in. The old one goes away altogether:
    # its control groups would still be in the mount table, and libvirt would look for them.
    try:
        detach("/sys")
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: not a mount point here
            raise
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(handle, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
