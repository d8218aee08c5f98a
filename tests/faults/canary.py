"""Bytes in each disk that no guest touches: where they change, data of a guest is lost."""

import subprocess
from pathlib import Path

# between the partition table and the first partition, where a system disk has nothing
_AT, _LENGTH = "512k", "64k"


def stamp(volume: Path, pattern: int) -> None:
    """Write `pattern`, 1 to 255, into the volume, which nobody may have open."""
    _qemu_io(volume, f"write -P {pattern} {_AT} {_LENGTH}", "flush")


def holds(volume: Path, pattern: int) -> bool:
    """Whether the volume holds `pattern`; a guest may have it open."""
    done = _qemu_io(volume, f"read -P {pattern} {_AT} {_LENGTH}", shared=True)
    return "verification failed" not in done


def _qemu_io(volume: Path, *commands: str, shared: bool = False) -> str:
    options = ["--read-only", "--force-share"] if shared else []
    said = subprocess.run(
        ["qemu-io", "-f", "qcow2", *options, *(f"--cmd={one}" for one in commands), str(volume)],
        check=False, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    text = said.stdout + said.stderr
    assert said.returncode == 0 or "verification failed" in text, f"{volume}: {text}"
    return text
