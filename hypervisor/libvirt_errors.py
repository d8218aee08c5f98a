"""libvirt's errors as ours: what was tried, libvirt's own words, and its code."""

from collections.abc import Iterator
from contextlib import contextmanager

import libvirt

from hypervisor.errors import HypervisorError


class LibvirtError(HypervisorError):
    """A call to libvirt failed; `code` is its virErrorNumber."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text, code)
        self.text = text
        self.code = code

    def __str__(self) -> str:
        return self.text


class Unavailable(HypervisorError):
    """libvirt does not answer."""


class NoDomain(LibvirtError):
    """The domain does not exist."""


class NoVolume(LibvirtError):
    """The volume does not exist."""


_KINDS = {libvirt.VIR_ERR_NO_DOMAIN: NoDomain, libvirt.VIR_ERR_NO_STORAGE_VOL: NoVolume}


@contextmanager
def explained(attempt: str) -> Iterator[None]:
    """Turn libvirt's error inside the block into a `LibvirtError` that begins with `attempt`."""
    try:
        yield
    except libvirt.libvirtError as error:
        code = error.get_error_code() or 0
        text = f"{attempt}: {error.get_error_message() or error} (libvirt error {code})"
        raise _KINDS.get(code, LibvirtError)(text, code) from error
