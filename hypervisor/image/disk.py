"""Turn a tree of files into a bootable qcow2 without mounts or loop devices.

The disk has an MBR, a FAT partition with syslinux, kernel and initramfs (a PC firmware boots it), and an ext4
root partition that comes last, so that it can grow with the disk.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypervisor.image import command
from hypervisor.image.errors import ImageError
from hypervisor.image.progress import Progress

MIB = 1024**2
_SECTOR = 512
_BOOT_OFFSET = MIB
_MBR_CODE = Path("/usr/lib/syslinux/mbr/mbr.bin")
_MBR_CODE_BYTES = 440  # the partition table follows
PROGRAMS = ("sfdisk", "mkfs.vfat", "mcopy", "syslinux", "mke2fs", "qemu-img")


# a guest emulated beside many others gets too few ticks while the kernel tests its timer, and panics;
# the kernel's tests of its ciphers are a tenth of an emulated boot; filling each page with zeros before it is
# used is a third of one, most of it for pages that the balloon gives back to the host
_EVERYWHERE = "no_timer_check cryptomgr.notests init_on_alloc=0"


@dataclass(frozen=True, slots=True)
class Layout:
    """What the disk looks like.

    Attributes:
        boot_mib: size of the FAT partition in MiB.
        root_mib: size of the root partition in MiB.
        label: label of the root file system; the kernel command line refers to it.
        ext4_options: options of mke2fs.
        append: the kernel command line.
    """

    boot_mib: int
    root_mib: int
    label: str
    ext4_options: tuple[str, ...]
    append: str


def require() -> None:
    """Check that everything that `write` needs is installed.

    Raises:
        ImageError: names the Debian packages to install.
    """
    command.require(PROGRAMS)
    if not _MBR_CODE.is_file():
        raise ImageError(f"{_MBR_CODE} not found: install with `apt-get install syslinux-common`")


def write(tree: Path, kernel: Path, initramfs: Path, layout: Layout, work: Path, progress: Progress) -> Path:
    """Make the image from the files of the root file system and return its path inside `work`.

    Args:
        tree: the root file system, with its owners and modes.
        kernel: the kernel, as the boot loader reads it.
        initramfs: its initramfs.
        layout: sizes, label and command line.
        work: a folder for temporary files.
        progress: 0 to 1 for this stage.

    Raises:
        ImageError: a program is missing or failed, for example because a partition is too small.
    """
    disk = work / "disk.raw"
    root_offset = _BOOT_OFFSET + layout.boot_mib * MIB
    progress("partitioning", 0.0)
    _allocate(disk, root_offset + layout.root_mib * MIB)
    _partition(disk, layout)
    _fill_boot(disk, kernel, initramfs, layout, work)
    progress("writing the file system", 0.1)
    # mke2fs writes into the disk itself, at an offset: no second file, no copy
    features: list[str | Path] = [*layout.ext4_options, "-L", layout.label, "-d", tree]
    extended = f"offset={root_offset},root_owner=0:0,lazy_itable_init=1"
    command.run(["mke2fs", "-q", "-F", "-t", "ext4", "-E", extended, *features, disk, f"{layout.root_mib}M"])
    progress("converting", 0.4)
    image = work / "image.qcow2"
    # not compressed: every guest would unpack again what it reads
    command.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, image])
    disk.unlink()
    progress("converting", 1.0)
    return image


def _allocate(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def _partition(disk: Path, layout: Layout) -> None:
    start, boot = _BOOT_OFFSET // _SECTOR, layout.boot_mib * MIB // _SECTOR
    table = (
        "label: dos\n"
        f"start={start}, size={boot}, type=c, bootable\n"
        f"start={start + boot}, size={layout.root_mib * MIB // _SECTOR}, type=83\n"
    )
    command.run(["sfdisk", "-q", disk], stdin=table.encode())
    with disk.open("r+b") as file:
        file.write(_MBR_CODE.read_bytes()[:_MBR_CODE_BYTES])


def _fill_boot(disk: Path, kernel: Path, initramfs: Path, layout: Layout, work: Path) -> None:
    # made apart and copied in: old dosfstools cannot write at an offset
    boot = work / "boot.fat"
    _allocate(boot, layout.boot_mib * MIB)
    hidden = str(_BOOT_OFFSET // _SECTOR)
    command.run(["mkfs.vfat", "-F", "32" if layout.boot_mib >= 64 else "16", "-s", "4" if layout.boot_mib < 64
                 else "1", "-h", hidden, "-n", "BOOT", boot])  # fmt: skip
    config = work / "syslinux.cfg"
    config.write_text(
        "SERIAL 0 115200\nDEFAULT linux\nPROMPT 0\nTIMEOUT 0\n"
        f"LABEL linux\n  LINUX /vmlinuz\n  INITRD /initrd\n  APPEND {layout.append} {_EVERYWHERE}\n"
    )
    files: Sequence[tuple[Path, str]] = ((kernel, "vmlinuz"), (initramfs, "initrd"), (config, "syslinux.cfg"))
    for source, name in files:
        command.run(["mcopy", "-i", boot, source, f"::{name}"], env={"MTOOLS_SKIP_CHECK": "1"})
    with boot.open("rb") as source_file, disk.open("r+b") as target_file:
        target_file.seek(_BOOT_OFFSET)
        shutil.copyfileobj(source_file, target_file, MIB)
    boot.unlink()
    command.run(["syslinux", "--install", "--offset", str(_BOOT_OFFSET), disk])
