"""The five system calls that the lab needs and Python 3.11 does not have.

ctypes rather than the ``unshare`` and ``nsenter`` programs: those put one more process between us and the
lab's PID 1, which signals and the exit status would have to pass, and do not say which process keeps the
namespaces. (``os.unshare`` and ``os.setns`` are in Python from 3.12 on.)
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

NEW_MOUNT, NEW_UTS, NEW_PID, NEW_NET = 0x00020000, 0x04000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_SLAVE = 0x2, 0x4, 0x8, 0x1000, 0x4000, 1 << 19
_MNT_DETACH = 0x2
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """Give the calling thread new namespaces; for ``NEW_PID`` only its next children are in the new one."""
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, flags: int) -> None:
    """Join the namespace of a file in /proc/PID/ns, or several of a process given by a pidfd (Linux 5.8)."""
    _check(_libc.setns(descriptor, flags), "setns")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    done = _libc.mount(arguments[0], arguments[1], arguments[2], ctypes.c_ulong(flags), arguments[3])
    _check(done, f"mount {target}")


def detach(target: str) -> None:
    """Take a mount and all below it out of this mount namespace."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), f"umount {target}")


def die_with_parent(number: int) -> None:
    """Have the kernel send signal ``number`` to this process when the thread that started it ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0), "prctl")


def children_in_new_pid_namespace() -> AbstractContextManager[None]:
    """Inside the block the one child that this thread starts is PID 1 of a new PID namespace."""
    return _children_elsewhere(lambda: unshare(NEW_PID))


def children_in_pid_namespace_of(pidfd: int) -> AbstractContextManager[None]:
    """Inside the block the children of this thread are born in the PID namespace of the process ``pidfd``."""
    return _children_elsewhere(lambda: setns(pidfd, NEW_PID))


@contextmanager
def _children_elsewhere(leave: Callable[[], None]) -> Iterator[None]:
    home = os.open("/proc/thread-self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        leave()
        try:
            yield
        finally:
            setns(home, NEW_PID)
    finally:
        os.close(home)
