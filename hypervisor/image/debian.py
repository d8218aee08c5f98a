"""`debian-12`: Debian with systemd, cloud-init, OpenSSH and the guest agent, cut down for a guest."""

import shlex
import shutil
from pathlib import Path

from hypervisor.image import disk, packages
from hypervisor.image.errors import ImageError
from hypervisor.image.mirror import Mirror
from hypervisor.image.progress import Progress, part
from hypervisor.image.tree import copy

DATA = Path(__file__).with_name("debian")
_PACKAGES = (
    "linux-image-cloud-amd64", "initramfs-tools", "zstd", "systemd-sysv", "systemd-resolved", "dbus", "udev",
    "kmod", "openssh-server", "cloud-init", "cloud-guest-utils", "qemu-guest-agent", "sudo", "netbase",
    "iproute2", "iputils-ping", "ca-certificates", "less", "vim-tiny", "login", "passwd", "e2fsprogs",
    "fdisk",
)  # fmt: skip
_LEFT_OUT = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/info/*",
)
LAYOUT = disk.Layout(
    boot_mib=64,
    root_mib=1983,
    label="debian-root",
    ext4_options=("-O", "^metadata_csum", "-m", "1"),
    append="root=LABEL=debian-root ro console=tty0 console=ttyS0,115200 quiet mitigations=off"
    " cryptomgr.notests audit=0 net.ifnames=0",
)


def build(work: Path, mirror: Mirror, progress: Progress) -> Path:
    """Build the image inside the folder `work` and return its path.

    Raises:
        ImageError: a program or a package is missing, or the mirror cannot be reached.
    """
    root, data = work / "root", work / "data"
    copy(DATA, data)
    quoted = shlex.quote(str(data))
    packages.bootstrap(
        root,
        _PACKAGES,
        variant="minbase",
        mirror=mirror,
        hooks=[f'cp -a {quoted}/skel/. "$1"/ && {quoted}/adapt "$1"'],
        progress=part(progress, 0.0, 0.75),
        dpkg_options=_LEFT_OUT,
    )
    boot = root / "boot"
    kernels, initramfs = sorted(boot.glob("vmlinuz-*")), sorted(boot.glob("initrd.img-*"))
    if not kernels or not initramfs:
        raise ImageError("the installed system has no kernel or initramfs: run the build again")
    # the guest's udev and cloud-init fill it in; device nodes of the build would only be in the way
    shutil.rmtree(root / "dev")
    (root / "dev").mkdir()
    return disk.write(root, kernels[-1], initramfs[-1], LAYOUT, work, part(progress, 0.75, 1.0))
