"""Unpack or install Debian packages into a folder with mmdebstrap."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from hypervisor.image import command
from hypervisor.image.errors import ImageError
from hypervisor.image.mirror import Mirror, apt_options
from hypervisor.image.progress import Progress

SUITE = "bookworm"
# what mmdebstrap announces, what a person reads, and how far the work then is
_STAGES = (
    ("running apt-get update", "reading package lists", 0.0),
    ("downloading packages", "downloading packages", 0.08),
    ("extracting archives", "unpacking packages", 0.3),
    ("installing essential", "installing the base system", 0.35),
    ("installing remaining", "installing packages", 0.55),
    ("running --", "adapting the system", 0.9),
    ("cleaning", "cleaning up", 0.98),
)


def bootstrap(
    target: Path,
    packages: Sequence[str],
    *,
    variant: Literal["extract", "minbase"],
    mirror: Mirror,
    hooks: Sequence[str],
    progress: Progress,
    dpkg_options: Sequence[str] = (),
) -> None:
    """Fill the empty folder `target` with packages and what they depend on.

    Args:
        target: a folder that does not exist yet.
        packages: names of packages.
        variant: `extract` only unpacks them; `minbase` installs a whole system around them.
        mirror: where they come from.
        hooks: shell commands to run with the folder as `$1`, after unpacking or installing.
        progress: told about each package.
        dpkg_options: options of dpkg, kept out of the result.

    Raises:
        ImageError: the mirror cannot be reached, a package is missing, or the disk is full.
    """
    kind = "extract" if variant == "extract" else "customize"
    host = apt_options(command.run(["apt-config", "dump"]))
    argv = ["mmdebstrap", "--verbose", "--mode=root", "--format=directory", f"--variant={variant}"]
    argv += [f"--aptopt={option}" for option in ('APT::Install-Recommends "false"',
                                                 'Acquire::Languages "none"',
                                                 'Acquire::Retries "3"', *host)]  # fmt: skip
    argv += [f"--dpkgopt={option}" for option in dpkg_options]
    argv += [f"--include={','.join(packages)}"]
    argv += [f"--{kind}-hook={hook}" for hook in hooks]
    argv += [SUITE, str(target), *mirror.sources(SUITE)]
    command.require(["mmdebstrap", "unshare"])
    # in namespaces of its own: what it mounts and starts there ends with it, also when it is killed
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command.run([*namespaces, *argv], on_line=_Meter(progress))
    if not (target / "etc").is_dir():
        raise ImageError(f"mmdebstrap left nothing in {target}: run the build again")


class _Meter:
    """Turns the lines of mmdebstrap and apt into progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._step, self._start, self._end = _STAGES[0][1], _STAGES[0][2], _STAGES[1][2]
        self._expected, self._seen = 50, 0

    def __call__(self, line: str) -> None:
        if line.startswith("I: "):
            self._enter(line[3:])
        elif found := re.search(r"(\d+) newly installed", line):
            # apt fetches each package; when it installs them too, two more lines follow for each
            lines = 1 if "download" in self._step else 3
            self._expected, self._seen = lines * max(int(found[1]), 1), 0
        elif re.match(r"(Get:|Unpacking |Setting up )", line):
            self._seen += 1
        else:
            return
        share = min(self._seen / self._expected, 1.0)
        self._progress(self._step, self._start + (self._end - self._start) * share)

    def _enter(self, announcement: str) -> None:
        for number, (sign, step, start) in enumerate(_STAGES):
            if announcement.startswith(sign):
                following = _STAGES[number + 1 :]
                self._step, self._start = step, max(start, self._start)
                self._end = max(following[0][2] if following else 1.0, self._start)
                self._seen = 0
