"""`tiny`: a guest that boots in seconds even without hardware virtualisation, for trying out and for tests.

Debian's kernel, busybox as init, dropbear, DHCP for IPv4 and IPv6, the guest agent; the shell scripts of the
guest are in the folder beside this module.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from hypervisor.image import command, cpio, disk, packages
from hypervisor.image.errors import ImageError
from hypervisor.image.mirror import Mirror
from hypervisor.image.modules import load_order
from hypervisor.image.progress import Progress, part
from hypervisor.image.tree import copy

DATA = Path(__file__).with_name("tiny")
_KERNEL = "linux-image-cloud-amd64"
_PACKAGES = (
    "busybox-static", "dhcpcd-base", "dropbear-bin", "e2fsprogs", "openssh-client", "openssh-sftp-server",
    "qemu-guest-agent",
)  # fmt: skip
# where each program is in its package, and in the guest when that differs
_PROGRAMS = {
    "usr/sbin/dropbear": "",
    "usr/bin/dropbearkey": "",
    "usr/sbin/qemu-ga": "",
    "usr/sbin/dhcpcd": "",
    "usr/bin/scp": "",
    "usr/lib/openssh/sftp-server": "usr/lib/sftp-server",
    "sbin/resize2fs": "",
    "sbin/mke2fs": "sbin/mkfs.ext4",
}
# applets that the guest's own programs stand in for
_REPLACED = frozenset({"busybox", "halt", "mke2fs", "poweroff", "reboot"})
_FIRST = ("virtio_pci", "virtio_blk", "virtio_net")
_SCSI = ("virtio_scsi", "sd_mod")
_LATER = (
    "sr_mod", "isofs", "vfat", "nls_cp437", "nls_iso8859-1", "nls_ascii", "button", "evdev", "virtio_balloon",
    "virtio_console", "virtio-rng", "ata_piix", "loop",
)  # fmt: skip
_LOADER = "ld-linux-x86-64.so.2"
_LIBRARIES = "lib/x86_64-linux-gnu"
# only the kernel: not the packages that would build an initramfs for it
_FETCH_KERNEL = (
    'export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"; mkdir "$1/kernel" && cd "$1/kernel" && '
    f"name=$(apt-cache depends {_KERNEL} | sed -n 's/^ *Depends: //p' | head -n1) && "
    'apt-get -o APT::Sandbox::User=root download "$name" && dpkg-deb -x ./*.deb . && rm ./*.deb'
)
LAYOUT = disk.Layout(
    boot_mib=32,
    root_mib=96,
    label="tinyroot",
    # a journal, or a reset would leave what was just written behind
    ext4_options=("-O", "^metadata_csum,^64bit", "-J", "size=4", "-b", "4096", "-m", "0"),
    append="console=tty0 console=ttyS0,115200 quiet mitigations=off nokaslr",
)


def build(work: Path, mirror: Mirror, progress: Progress) -> Path:
    """Build the image inside the folder `work` and return its path.

    Raises:
        ImageError: a program or a package is missing, or the mirror cannot be reached.
    """
    command.require(["lz4"])
    unpacked, root, initramfs = work / "packages", work / "root", work / "initramfs"
    packages.bootstrap(
        unpacked,
        _PACKAGES,
        variant="extract",
        mirror=mirror,
        hooks=[_FETCH_KERNEL],
        progress=part(progress, 0.0, 0.6),
    )
    progress("assembling", 0.6)
    versions = sorted((unpacked / "kernel/lib/modules").iterdir())
    if not versions:
        raise ImageError(f"{_KERNEL} holds no modules: try another mirror with --mirror")
    modules = _Modules(unpacked, versions[0].name)
    _write_initramfs(unpacked, modules, initramfs, work)
    _write_root(unpacked, modules, root)
    kernel = unpacked / "kernel/boot" / f"vmlinuz-{modules.version}"
    return disk.write(root, kernel, initramfs, LAYOUT, work, part(progress, 0.65, 1.0))


class _Modules:
    """The kernel's modules, by name."""

    def __init__(self, unpacked: Path, version: str) -> None:
        self.version = version
        self.folder = unpacked / "kernel/lib/modules" / version
        self._busybox = unpacked / "bin/busybox"
        self._index(unpacked / "kernel")
        self._dependencies = (self.folder / "modules.dep").read_text()

    def files(self, names: Iterable[str]) -> list[str]:
        """Paths below `folder`, in the order to load them."""
        try:
            return load_order(self._dependencies, names)
        except KeyError as error:
            raise ImageError(f"the kernel {self.version} has no module {error}") from error

    def install(self, root: Path, names: Iterable[str]) -> None:
        """Copy modules, with what they need, into a root file system."""
        target = root / "lib/modules" / self.version
        for name in self.files(names):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / name, target / name)
        for index in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
            shutil.copyfile(self.folder / index, target / index)
        self._index(root)

    def _index(self, base: Path) -> None:
        command.run([self._busybox, "depmod", "-b", base, self.version])


def _write_initramfs(unpacked: Path, modules: _Modules, target: Path, work: Path) -> None:
    entries = [cpio.Entry(name) for name in ("bin", "dev", "proc", "sys", "new", "modules")]
    entries.append(cpio.Entry("bin/busybox", (unpacked / "bin/busybox").read_bytes()))
    entries.append(cpio.Entry("init", (DATA / "initramfs-init").read_bytes()))
    first = modules.files(_FIRST)
    scsi = [name for name in modules.files(_SCSI) if name not in first]
    for listing, names in (("first", first), ("scsi", scsi)):
        text = "".join(f"{Path(name).name}\n" for name in names)
        entries.append(cpio.Entry(f"modules/{listing}", text.encode(), 0o644))
        for name in names:
            entries.append(
                cpio.Entry(f"modules/{Path(name).name}", (modules.folder / name).read_bytes(), 0o644)
            )
    plain = work / "initramfs.cpio"
    plain.write_bytes(cpio.archive(entries))
    # the kernel unpacks the legacy format of lz4 quickest
    command.run(["lz4", "-q", "-f", "-l", "-9", plain, target])
    plain.unlink()


def _write_root(unpacked: Path, modules: _Modules, root: Path) -> None:
    for folder in ("bin", "dev", "etc/dropbear", "home", "lib64", "mnt", "proc", "root/.ssh", "run", "sbin",
                   "sys", "tmp", "usr/bin", "usr/lib", "usr/sbin", "var/lib/tiny", "var/log",
                   _LIBRARIES):  # fmt: skip
        (root / folder).mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    (root / "tmp").chmod(0o1777)
    for private in ("root", "root/.ssh"):
        (root / private).chmod(0o700)
    (root / "var/run").symlink_to("../run")
    # leases are not kept: a copy of this disk may wake up with another card
    (root / "var/lib/dhcpcd").symlink_to("../../run/dhcpcd")
    _install_busybox(unpacked, root)
    _install_programs(unpacked, root)
    modules.install(root, (*_FIRST, *_SCSI, *_LATER))
    copy(DATA / "skel", root)
    (root / "etc/shadow").chmod(0o600)


def _install_busybox(unpacked: Path, root: Path) -> None:
    shutil.copy(unpacked / "bin/busybox", root / "bin/busybox")
    applets = command.run([unpacked / "bin/busybox", "--list"]).split()
    for applet in applets:
        if applet not in _REPLACED:
            (root / "bin" / applet).symlink_to("busybox")
    for applet in ("init", "getty", "modprobe", "insmod", "udhcpc", "switch_root"):
        (root / "sbin" / applet).symlink_to("../bin/busybox")
    (root / "usr/bin/env").symlink_to("../../bin/busybox")


def _install_programs(unpacked: Path, root: Path) -> None:
    needed: set[str] = set()
    loader = unpacked / "lib64" / _LOADER
    search = f"{unpacked / _LIBRARIES}:{unpacked / 'usr' / _LIBRARIES}"
    for source, target in _PROGRAMS.items():
        path = root / (target or source)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(unpacked / source, path)
        listing = command.run([loader, "--library-path", search, "--list", unpacked / source])
        needed.update(
            word for word in listing.split() if word.startswith(f"{unpacked}/") and _LOADER not in word
        )
    for library in sorted(needed):
        shutil.copy(library, root / _LIBRARIES / Path(library).name)
    shutil.copy(loader, root / "lib64" / _LOADER)
    shutil.copy(unpacked / "etc/mke2fs.conf", root / "etc/mke2fs.conf")
