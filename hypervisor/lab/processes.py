"""The processes of a lab, seen from its PID 1."""

import os
import signal
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from hypervisor.lab.signals import WATCHED

#: Seconds that processes get after SIGTERM.
_END_LIMIT = 5.0


def ended(chosen: set[int], keep: AbstractSet[int] = frozenset()) -> bool:
    """Send SIGTERM and wait until only ``keep`` is left; False after the limit, or at a signal to hurry."""
    send(chosen, signal.SIGTERM)
    deadline = time.monotonic() + _END_LIMIT
    while others() - keep:
        # Short waits: the end of a process whose parent lives too is not told to us.
        info = signal.sigtimedwait(WATCHED, 0.02)
        for _ in reap():
            pass
        hurry = info is not None and info.si_signo != signal.SIGCHLD
        if hurry or time.monotonic() > deadline:
            return False
    return True


def send(chosen: set[int], number: int) -> None:
    """Send a signal to each process that still exists."""
    for pid in chosen:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def others() -> set[int]:
    """All processes of the lab but this one."""
    return {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()} - {os.getpid()}


def reap() -> Iterator[tuple[int, int]]:
    """Process id and exit status (negative: a signal) of every child that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)
