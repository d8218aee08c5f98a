"""libvirt's errors as ours: what was tried, libvirt's own words, and its code."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import libvirt

from hypervisor import timing
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
    """libvirt does not answer, or its connection broke in the middle of a call that may have been done."""


class NoDomain(LibvirtError):
    """The domain does not exist."""


class NoVolume(LibvirtError):
    """The volume does not exist."""


class Busy(LibvirtError):
    """libvirt is at something else with the object, and was so for half a minute."""


# a call that ended because the connection did (nova tells a broken connection by the same two)
_TRANSPORT = (libvirt.VIR_FROM_REMOTE, libvirt.VIR_FROM_RPC)
_BROKEN = (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_RPC)

_KINDS = {
    libvirt.VIR_ERR_NO_DOMAIN: NoDomain,
    libvirt.VIR_ERR_NO_STORAGE_VOL: NoVolume,
    libvirt.VIR_ERR_OPERATION_TIMEOUT: Busy,
}


def explained(attempt: str) -> AbstractContextManager[None]:
    """Turn libvirt's error inside the block into a `LibvirtError` that begins with `attempt`, or into
    `Unavailable` when the connection broke. How long the block took is told to `timing.listeners`."""
    return _explained(attempt, timing.area(1))


@contextmanager
def _explained(attempt: str, area: str) -> Iterator[None]:
    begun, failure = time.perf_counter(), None
    try:
        with _translated(attempt):
            yield
    except HypervisorError as error:
        failure = type(error).__name__
        raise
    finally:
        timing.tell(area, attempt, begun, failure)


@contextmanager
def _translated(attempt: str) -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        code = error.get_error_code() or 0
        if error.get_error_domain() in _TRANSPORT and code in _BROKEN:
            raise Unavailable(
                f"{attempt}: the connection to libvirt broke ({error.get_error_message()}): "
                "is libvirtd running?"
            ) from error
        text = f"{attempt}: {error.get_error_message() or error} (libvirt error {code})"
        raise _KINDS.get(code, LibvirtError)(text, code) from error
