"""Build a guest image by name."""

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from hypervisor.image import debian, disk, mirror, tiny
from hypervisor.image.errors import ImageError
from hypervisor.image.mirror import Mirror
from hypervisor.image.progress import Progress, silent

Recipe = Callable[[Path, Mirror, Progress], Path]
RECIPES: Mapping[str, Recipe] = MappingProxyType({"tiny": tiny.build, "debian-12": debian.build})
# generous: what a build leaves in its folder at its worst moment, in bytes
_SPACE = {"tiny": 1024**3, "debian-12": 4 * 1024**3}
_CODE = Path(__file__).parent
# modules that no build uses: they are about images from elsewhere
_READERS = ("convert.py", "probe.py")


def build(name: str, destination: Path, mirror_: Mirror | None = None, progress: Progress = silent) -> Path:
    """Build an image as a qcow2 file.

    Nothing is left behind when it fails or is interrupted; the file appears whole or not at all.

    Args:
        name: one of `RECIPES`.
        destination: the file to make (an older one is replaced).
        mirror_: where Debian's packages come from; None takes the mirror of the host's own apt.
        progress: told how far it is.

    Returns:
        The destination.

    Raises:
        ImageError: no such recipe, or the build cannot be done here; the text says what to do.
    """
    recipe = RECIPES.get(name)
    if recipe is None:
        raise ImageError(f"no image is called {name!r}: there are {', '.join(RECIPES)}")
    _check(name, destination)
    progress("starting", 0.0)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".image-", dir=destination.parent) as folder:
            work = Path(folder)
            work.chmod(0o755)  # apt fetches as a user of its own
            image = recipe(work, mirror_ or mirror.of_host(), progress)
            with image.open("rb") as file:
                os.fsync(file.fileno())
            image.replace(destination)
    except OSError as error:
        raise ImageError(f"cannot build {destination}: {error.strerror}: {error.filename}") from error
    progress("done", 1.0)
    return destination


def recipe_digest(name: str) -> str:
    """Name a recipe's present state: the same digest means that a finished image need not be built again.

    Raises:
        ImageError: no such recipe.
    """
    if name not in RECIPES:
        raise ImageError(f"no image is called {name!r}: there are {', '.join(RECIPES)}")
    own, other = (tiny, debian) if name == "tiny" else (debian, tiny)
    aside = {*_READERS, f"{other.__name__.rpartition('.')[2]}.py"}
    files = [path for path in own.DATA.rglob("*") if path.is_file()]
    files += [path for path in _CODE.glob("*.py") if path.name not in aside]
    digest = hashlib.sha256(name.encode())
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"\0{path.relative_to(_CODE)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _check(name: str, destination: Path) -> None:
    if os.geteuid() != 0:
        raise ImageError("building an image needs root: the files in it belong to several users; use sudo")
    if platform.machine() not in {"x86_64", "amd64"}:
        raise ImageError(f"images are built on x86-64 hosts, this one is {platform.machine()}")
    disk.require()
    existing = next(
        folder for folder in (destination.parent, *destination.absolute().parents) if folder.is_dir()
    )
    free = shutil.disk_usage(existing).free
    if free < _SPACE[name]:
        wanted, there = _SPACE[name] // 1024**2, free // 1024**2
        raise ImageError(f"{existing} has {there} MiB free and {name} needs {wanted} MiB while it is built")
