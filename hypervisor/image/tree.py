"""Put the data files of a recipe into a guest's file system."""

import os
from pathlib import Path


def copy(source: Path, target: Path) -> None:
    """Copy a folder's files over another folder, replacing what is there.

    Everything belongs to root; a file that starts with `#!` becomes executable. So it does not matter which
    owners and modes the files had where this program is installed.
    """
    for path in sorted(source.rglob("*")):
        if path.is_file():
            _install(path, target / path.relative_to(source))


def _install(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    content = source.read_bytes()
    target.write_bytes(content)
    os.chown(target, 0, 0)
    target.chmod(0o755 if content.startswith(b"#!") else 0o644)
