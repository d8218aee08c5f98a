"""The key by which ssh clients know the console's server again."""

import os
import subprocess
import sys
from pathlib import Path


def ensure(file: Path) -> None:
    """Make the ed25519 key `file`, for its owner only, unless it is there; raises `RuntimeError`."""
    if file.exists():
        return
    # in a process of its own: what makes keys would stay in this one's memory
    command = [sys.executable, "-m", "api.wire.host_key", str(file)]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if made.returncode != 0:
        raise RuntimeError(f"cannot make the console's host key {file}: {made.stderr[-500:]}")


def _make(file: Path) -> None:
    import asyncssh

    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as written:
        written.write(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    new.rename(file)


if __name__ == "__main__":
    _make(Path(sys.argv[1]))
