"""Images that come from elsewhere, brought into the one format that overlays are made on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypervisor.image import command
from hypervisor.image.probe import probe


@contextmanager
def as_qcow2(file: Path, folder: Path) -> Iterator[tuple[Path, int]]:
    """The image `file` as qcow2, and its virtual size in bytes.

    A raw image is converted, in `folder`, for as long as the block runs. The format is what the file's header
    says, and is always told to QEMU.
    Raises `ImageError` for a file that is no image, or not self-contained.
    """
    info = probe(file)
    if info.format == "qcow2":
        yield file, info.virtual_size
        return
    with TemporaryDirectory(prefix=".convert-", dir=folder) as work:
        converted = Path(work) / "image.qcow2"
        command.run(["qemu-img", "convert", "-f", info.format, "-O", "qcow2", file, converted])
        yield converted, info.virtual_size
