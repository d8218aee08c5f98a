"""What can go wrong with an image, said so that a person knows what to do."""

from hypervisor.errors import HypervisorError


class ImageError(HypervisorError):
    """An image cannot be built or is not acceptable; the text names the remedy."""
