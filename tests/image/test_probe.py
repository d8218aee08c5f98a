"""Images from elsewhere are read from their own bytes, and never make QEMU open another file."""

import struct
import subprocess
from pathlib import Path

import pytest

from hypervisor.image.errors import ImageError
from hypervisor.image.probe import ImageInfo, probe

MIB = 1024**2


def create(path: Path, *options: str, size: str = "8M") -> Path:
    subprocess.run(["qemu-img", "create", "-q", *options, str(path), size], check=True)
    return path


@pytest.mark.parametrize(
    "options", [(), ("-o", "compat=0.10"), ("-o", "extended_l2=on"), ("-o", "compression_type=zstd")]
)
def test_qcow2(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert probe(create(tmp_path / "a", "-f", "qcow2", *options)) == ImageInfo("qcow2", 8 * MIB)


def test_raw_is_what_has_no_other_magic(tmp_path: Path) -> None:
    assert probe(create(tmp_path / "a.qcow2", "-f", "raw")) == ImageInfo("raw", 8 * MIB)


def test_backing_file_is_refused(tmp_path: Path) -> None:
    base = create(tmp_path / "base", "-f", "raw")
    overlay = create(tmp_path / "overlay", "-f", "qcow2", "-b", str(base), "-F", "raw")
    with pytest.raises(ImageError, match="backing file"):
        probe(overlay)


def test_external_data_file_is_refused(tmp_path: Path) -> None:
    image = create(tmp_path / "a", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}")
    with pytest.raises(ImageError, match="another file"):
        probe(image)
    # the flag alone may be missing: the name is enough for a refusal
    with image.open("r+b") as file:
        file.seek(72)
        file.write(struct.pack(">Q", 0))
    with pytest.raises(ImageError, match="another file"):
        probe(image)


@pytest.mark.parametrize("format_", ["vmdk", "vdi", "vhdx"])
def test_other_formats_are_named_and_refused(tmp_path: Path, format_: str) -> None:
    with pytest.raises(ImageError, match="qcow2 or raw"):
        probe(create(tmp_path / "a", "-f", format_))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 100,
        b"QFI\xfb",
        b"QFI\xfb" + b"\xff" * 600,
        b"\x1f\x8b" + b"\0" * 510,
        b"\xfd7zXZ\0" + b"\0" * 506,
    ],
)
def test_what_is_no_disk_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(ImageError):
        probe(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not a file"):
        probe(tmp_path / "none")
