"""Read what an image file is, from its own bytes.

The format is decided here, once, and named ever after: QEMU never guesses. A file that would make QEMU open
another file of the host (a backing file, an external data file) is refused before QEMU sees it.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from hypervisor.image.errors import ImageError

_SECTOR = 512
_QCOW2 = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")  # up to and including the offset of the snapshots
_VERSION_3 = struct.Struct(">QQQII")
# incompatible features: 0 dirty, 3 compression type, 4 extended L2 entries are QEMU's own business
_CORRUPT, _EXTERNAL_DATA, _KNOWN = 1 << 1, 1 << 2, 0b11111
_EXTERNAL_DATA_NAME, _END = 0x44415441, 0
_MAX_EXTENSIONS = 64
# what is neither qcow2 nor raw, by its first bytes
_OTHERS = (
    (b"QFI\xfa", "QED or old qcow"),
    (b"QED\0", "QED"),
    (b"KDMV", "VMDK"),
    (b"COWD", "VMDK"),
    (b"# Disk DescriptorFile", "VMDK"),
    (b"vhdxfile", "VHDX"),
    (b"conectix", "VHD"),
    (b"<<< ", "VDI"),
    (b"\xfd7zXZ\0", "xz-compressed"),
    (b"\x1f\x8b", "gzip-compressed"),
    (b"BZh", "bzip2-compressed"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed"),
    (b"PK\x03\x04", "ZIP"),
)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image file is.

    Attributes:
        format: the format to name to QEMU and libvirt.
        virtual_size: the size of the disk that a guest sees, in bytes.
    """

    format: Literal["qcow2", "raw"]
    virtual_size: int


def probe(path: Path) -> ImageInfo:
    """Decide the format of an image and check that it stands alone.

    Raises:
        ImageError: the file is missing, damaged, of another format, or refers to other files.
    """
    try:
        if not path.is_file():
            raise ImageError(f"{path} is not a file")
        with path.open("rb") as file:
            start = file.read(64)
            if start.startswith(_QCOW2):
                return _qcow2(path, file)
            return _raw(path, start)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error


def _raw(path: Path, start: bytes) -> ImageInfo:
    for magic, name in _OTHERS:
        if start.startswith(magic):
            advice = "unpack it first" if "compressed" in name or name == "ZIP" else (
                "convert it with `qemu-img convert -O qcow2`, if you trust where it comes from")  # fmt: skip
            raise ImageError(f"{path} is a {name} file, and images are qcow2 or raw: {advice}")
    size = path.stat().st_size
    if size == 0 or size % _SECTOR:
        raise ImageError(f"{path} is neither qcow2 nor a raw disk: its {size} bytes are not whole sectors")
    return ImageInfo("raw", size)


def _qcow2(path: Path, file: BinaryIO) -> ImageInfo:
    file.seek(0)
    header = file.read(_HEADER.size + _VERSION_3.size)
    if len(header) < _HEADER.size + _VERSION_3.size:
        raise ImageError(f"{path} is a damaged qcow2 file: it ends in its header")
    _, version, backing, _, _, size, encryption, *_ = _HEADER.unpack_from(header)
    features, length = 0, _HEADER.size
    if version == 3:
        features, _, _, _, length = _VERSION_3.unpack_from(header, _HEADER.size)
    elif version != 2:
        raise ImageError(f"{path} is a qcow2 file of unknown version {version}")
    if backing:
        raise ImageError(
            f"{path} has a backing file, which it would be read from on this host: merge the two with"
            " `qemu-img convert -O qcow2` where it was made"
        )
    if features & _EXTERNAL_DATA or _EXTERNAL_DATA_NAME in _extensions(path, file, length):
        raise ImageError(
            f"{path} keeps its data in another file: convert it with `qemu-img convert -O qcow2`"
        )
    if features & _CORRUPT:
        raise ImageError(f"{path} is marked as damaged: repair it with `qemu-img check -r all`")
    if features & ~_KNOWN:
        raise ImageError(f"{path} uses qcow2 features that are not known here ({features:#x})")
    if encryption:
        raise ImageError(f"{path} is encrypted: convert it to a plain qcow2 first")
    if size == 0 or size % _SECTOR:
        raise ImageError(f"{path} is a damaged qcow2 file: its disk has {size} bytes")
    return ImageInfo("qcow2", size)


def _extensions(path: Path, file: BinaryIO, offset: int) -> set[int]:
    found: set[int] = set()
    for _ in range(_MAX_EXTENSIONS):
        file.seek(offset)
        entry = file.read(8)
        if len(entry) < 8:
            break
        kind, length = struct.unpack(">II", entry)
        if kind == _END:
            return found
        found.add(kind)
        offset += 8 + length + -length % 8
    raise ImageError(f"{path} is a damaged qcow2 file: its header does not end")
