"""Images as pools keep them: qcow2 that is read without unpacking."""

import json
import random
import subprocess
from pathlib import Path

import pytest

from hypervisor.image.convert import as_qcow2
from hypervisor.image.errors import ImageError

# halves that cannot be packed, so that packed ones take some space
_CONTENT = b"".join(random.Random(1).randbytes(32768) + bytes([number]) * 32768 for number in range(1, 33))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    file = tmp_path / "image.raw"
    file.write_bytes(_CONTENT)
    return file


def converted(raw: Path, *options: str) -> Path:
    file = raw.with_suffix(".qcow2")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, raw, file], check=True)
    return file


def compressed_clusters(file: Path) -> int:
    said = subprocess.check_output(["qemu-img", "check", "-f", "qcow2", "--output=json", file])
    return int(json.loads(said).get("compressed-clusters", 0))


def content(file: Path, folder: Path) -> bytes:
    out = folder / "content"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", file, out], check=True)
    return out.read_bytes()


@pytest.mark.parametrize(
    "options", [("-c",), ("-c", "-o", "compression_type=zstd"), ("-c", "-o", "compat=0.10")]
)
def test_a_compressed_image_is_unpacked(raw: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    file = converted(raw, *options)
    assert compressed_clusters(file)
    with as_qcow2(file, tmp_path) as (image, size):
        assert (image == file, size) == (False, len(_CONTENT))
        assert compressed_clusters(image) == 0
        assert content(image, tmp_path) == _CONTENT
    assert not image.exists()
    assert file.exists()


def test_one_that_is_not_stays_as_it_is(raw: Path, tmp_path: Path) -> None:
    file = converted(raw)
    with as_qcow2(file, tmp_path) as (image, size):
        assert (image, size) == (file, len(_CONTENT))
    assert file.exists()


def test_a_raw_one_is_converted(raw: Path, tmp_path: Path) -> None:
    with as_qcow2(raw, tmp_path) as (image, size):
        assert size == len(_CONTENT)
        assert content(image, tmp_path) == _CONTENT
    assert not image.exists()


def test_what_leaked_does_no_harm(raw: Path, tmp_path: Path) -> None:
    """A cluster that nothing refers to any more, as a crash of QEMU leaves it."""
    file = converted(raw)
    with file.open("r+b") as image:
        image.seek(40)  # where the table of tables is (docs/interop/qcow2.txt in QEMU)
        table = int.from_bytes(image.read(8), "big")
        image.seek(table)
        image.write(bytes(8))
    assert subprocess.run(["qemu-img", "check", "-q", file], check=False).returncode == 3
    with as_qcow2(file, tmp_path) as (image_file, size):
        assert (image_file, size) == (file, len(_CONTENT))


@pytest.mark.parametrize("options", [(), ("-c",)], ids=["plain", "compressed"])
def test_half_a_download_is_refused(raw: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    file = converted(raw, *options)
    with file.open("r+b") as image:
        image.truncate(file.stat().st_size // 2)
    with pytest.raises(ImageError, match="cut off"), as_qcow2(file, tmp_path):
        pass


def test_what_is_no_table_is_refused(raw: Path, tmp_path: Path) -> None:
    file = converted(raw)
    with file.open("r+b") as image:
        image.seek(40)
        image.write(bytes([0, 0, 0, 0, 0, 0, 0, 7]))
    with pytest.raises(ImageError, match=r"looked through|damaged"), as_qcow2(file, tmp_path):
        pass
