"""Images that come from elsewhere, brought into the one format that overlays are made on."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypervisor.image import command
from hypervisor.image.errors import ImageError
from hypervisor.image.probe import probe


@contextmanager
def as_qcow2(file: Path, folder: Path) -> Iterator[tuple[Path, int]]:
    """The image `file` as qcow2, and its virtual size in bytes.

    A raw image is converted, in `folder`, for as long as the block runs. So is a compressed one, as images
    for download are: QEMU keeps nothing that it unpacks, and every guest would pay for it with each read. The
    format is what the file's header says, and is always told to QEMU.
    Raises `ImageError` for a file that is no image, damaged, or not self-contained.
    """
    info = probe(file)
    if info.format == "qcow2" and not _is_compressed(file):
        yield file, info.virtual_size
        return
    with TemporaryDirectory(prefix=".convert-", dir=folder) as work:
        converted = Path(work) / "image.qcow2"
        command.run(["qemu-img", "convert", "-f", info.format, "-O", "qcow2", file, converted])
        yield converted, info.virtual_size


def _is_compressed(file: Path) -> bool:
    command.require(["qemu-img"])
    asked = ["qemu-img", "check", "-f", "qcow2", "--output=json", str(file)]
    looked = subprocess.run(asked, check=False, capture_output=True, text=True)
    if not looked.stdout:
        raise ImageError(f"{file} cannot be looked through: {looked.stderr.strip()}")
    # its status tells leaks, which are harmless, from damage; so does what it says
    found = json.loads(looked.stdout)
    if found.get("corruptions") or found.get("check-errors"):
        raise ImageError(
            f"{file} is damaged, as by a download that was cut off: get it again, or see `qemu-img check`"
        )
    return bool(found.get("compressed-clusters"))
