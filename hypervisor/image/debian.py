"""stub"""

from pathlib import Path

from hypervisor.image.errors import ImageError
from hypervisor.image.mirror import Mirror
from hypervisor.image.progress import Progress

DATA = Path(__file__).with_name("debian")


def build(work: Path, mirror: Mirror, progress: Progress) -> Path:
    raise ImageError("not yet")
