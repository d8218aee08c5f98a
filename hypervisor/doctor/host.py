"""The host itself: the versions of what runs there, and its clock."""

import ctypes
import os
import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import libvirt

from hypervisor.doctor.finding import Finding, command, ok, problem, warning
from hypervisor.libvirt_errors import explained

Version = tuple[int, int, int]

_LEAST_LIBVIRT: Version = (9, 0, 0)
_LEAST_QEMU: Version = (7, 2, 0)
# what was seen of single versions while this was made, and holds for their patch releases too
_KNOWN = {
    "libvirt": {
        (9, 0): "it has two known defects that are worked around: calls of threads that share a connection "
        "stall, and a domain whose start a dying libvirtd cut short is never let go"
    },
    "QEMU": {
        (7, 1): "disks with iothreads and io_uring hang in 7.1.0 (gitlab.com/qemu-project/qemu/-/issues/1193)"
    },
}

_UNSYNCHRONISED = 0x40  # STA_UNSYNC of adjtimex(2)
_ERROR = 5  # TIME_ERROR: the clock is not synchronised
_TIMEX_BYTES = 208
_STATUS_OFFSET = 40  # struct timex: five longs of 8 bytes stand before it, the first one padded
_SKEW = 120.0  # seconds that the clock may be behind what was recorded


def versions(connection: libvirt.virConnect) -> Iterator[Finding]:
    """Python, libvirt, QEMU; raises `LibvirtError`."""
    yield ok("Python", f"{platform.python_version()} runs the service")
    with explained("versions"):
        found = {
            "libvirt": (_split(connection.getLibVersion()), _LEAST_LIBVIRT),
            "QEMU": (_split(connection.getVersion()), _LEAST_QEMU),
        }
    for name, (version, least) in found.items():
        yield _judged(name, version, least)


def _judged(name: str, version: Version, least: Version) -> Finding:
    written = ".".join(map(str, version))
    known = _KNOWN[name].get(version[:2])
    if version < least:
        packages = "libvirt-daemon-system" if name == "libvirt" else "qemu-system-x86"
        reason = f"; {known}" if known else ""
        return problem(
            name,
            f"{written} is older than {'.'.join(map(str, least))}, the oldest that was tested{reason}",
            command("apt-get", "install", "--only-upgrade", packages),
        )
    return ok(name, f"{written} answers; {known}" if known else f"{written} answers")


def _split(number: int) -> Version:
    return number // 10**6, number // 1000 % 1000, number % 1000


def clock(newest: datetime | None) -> Finding:
    """Whether the clock is kept in step with the world's, and not behind `newest`, the last recorded moment
    (UTC, without a zone)."""
    now = datetime.now(UTC).replace(tzinfo=None)
    if newest is not None and (newest - now).total_seconds() > _SKEW:
        return problem(
            "clock",
            f"it says {now:%Y-%m-%d %H:%M:%S} UTC, but work was recorded at {newest:%Y-%m-%d %H:%M:%S}: "
            "it was set back",
            "timedatectl set-ntp true",
        )
    zone = time.strftime("%z")
    if _synchronised():
        return ok("clock", f"it is kept in step by NTP; local time is UTC{zone}, the API speaks UTC")
    return warning(
        "clock",
        "nothing keeps it in step, as the kernel says: guests and clients may disagree about the time",
        "timedatectl set-ntp true",
    )


def _synchronised() -> bool:
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes = 0: only asks
    state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    if state < 0:
        raise OSError(ctypes.get_errno(), "adjtimex failed")
    status = int.from_bytes(timex.raw[_STATUS_OFFSET : _STATUS_OFFSET + 4], "little")
    return state != _ERROR and not status & _UNSYNCHRONISED


def is_root() -> bool:
    """Whether this process may look everywhere."""
    return os.geteuid() == 0
