"""Run the programs that a build needs; whatever happens, none outlives the call."""

import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hypervisor.image.errors import ImageError

# The Debian package of each program, for the one message that everybody meets first.
PACKAGES = {
    "apt-config": "apt",
    "lz4": "lz4",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
    "sfdisk": "fdisk",
    "syslinux": "syslinux",
    "unshare": "util-linux",
}
_KEPT_LINES = 40
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def require(programs: Sequence[str]) -> None:
    """Check that all programs are installed.

    Raises:
        ImageError: names the Debian packages to install.
    """
    missing = [program for program in programs if shutil.which(program, path=_PATH) is None]
    if missing:
        packages = " ".join(sorted({PACKAGES.get(program, program) for program in missing}))
        raise ImageError(f"{', '.join(missing)} not found: install with `apt-get install {packages}`")


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    on_line: Callable[[str], None] | None = None,
) -> str:
    """Run a program to its end and return what it printed (standard output and error together).

    Args:
        argv: the program and its arguments; no shell is involved.
        env: variables set on top of the environment.
        stdin: bytes given on standard input.
        on_line: called for each line as it comes; only the last lines are then kept.

    Raises:
        ImageError: the program is missing or failed; the text ends with its last lines.
    """
    program = str(argv[0])
    require([program])
    with subprocess.Popen(
        [str(argument) for argument in argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PATH": _PATH, "LC_ALL": "C", **(env or {})},
        start_new_session=True,  # Ctrl-C reaches us alone, and we end the whole group
    ) as process:
        try:
            lines = _exchange(process, stdin, on_line)
        except BaseException:
            _end(process)
            raise
    output = "\n".join(lines)
    if process.returncode != 0:
        raise _failure(program, process.returncode, output)
    return output


def _exchange(
    process: subprocess.Popen[bytes], stdin: bytes, on_line: Callable[[str], None] | None
) -> Sequence[str]:
    if on_line is None:
        output, _ = process.communicate(stdin)
        return output.decode(errors="replace").splitlines()
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018, S101 - both are pipes
    process.stdin.close()
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    for raw in process.stdout:
        line = raw.decode(errors="replace").rstrip()
        lines.append(line)
        on_line(line)
    process.wait()
    return lines


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _failure(program: str, status: int, output: str) -> ImageError:
    tail = "\n".join(output.splitlines()[-_KEPT_LINES:])
    if "No space left on device" in output:
        return ImageError(f"{program} ran out of disk space: free some, or build into another folder")
    if "NO_PUBKEY" in output or "is not signed" in output:
        return ImageError(
            "the mirror's signature cannot be checked: install with `apt-get install debian-archive-keyring`,"
            f" or give another mirror with --mirror\n{tail}"
        )
    if any(sign in output for sign in ("Could not resolve", "Could not connect", "Failed to fetch",
                                       "Unable to connect", "does not have a Release file")):  # fmt: skip
        return ImageError(f"the Debian mirror is out of reach or lacks the release: try --mirror URL\n{tail}")
    return ImageError(f"{program} failed with status {status}:\n{tail}")
