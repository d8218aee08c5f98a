"""Signals and the terminal around a command that runs in a lab.

The command stays in the caller's process group, so Ctrl-C, Ctrl-Z and ``fg`` reach it from the terminal as
they would without a lab. Only what somebody sent to us alone (``kill``, ``timeout``) is passed on.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FORWARDED = frozenset(
    {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
)
#: What a process that supervises others waits for.
WATCHED = FORWARDED | {signal.SIGCHLD}

_SI_KERNEL = 0x80


def from_terminal(info: signal.struct_siginfo) -> bool:
    """Whether the kernel sent the signal for a key, to the whole process group, and not somebody to us."""
    return info.si_code == _SI_KERNEL


@contextmanager
def blocked() -> Iterator[None]:
    """Keep the watched signals for ``wait`` during the block; what is left of them then is dropped."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        yield
    finally:
        while signal.sigtimedwait(WATCHED, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait(child: "subprocess.Popen[bytes]") -> int:
    """Pass signals on to a child until it ends; its exit status, 128 + number when a signal ended it."""
    while (status := child.poll()) is None:
        # The limit is for a caller with several threads: SIGCHLD may then go to one that throws it away.
        info = signal.sigtimedwait(WATCHED, 0.5)
        if info is not None and info.si_signo != signal.SIGCHLD and not from_terminal(info):
            child.send_signal(info.si_signo)
    return shell_status(status)


def shell_status(status: int) -> int:
    """An exit status the way shells give it: 128 + number for a signal."""
    return status if status >= 0 else 128 - status


@contextmanager
def terminal_returned() -> Iterator[None]:
    """Take the terminal back after a block in which a shell with job control had it.

    Such a shell gives the terminal back to the process group that it found, which it cannot name from inside
    its PID namespace.
    """
    try:
        ours = os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        ours = False
    try:
        yield
    finally:
        if ours:
            with suppress(OSError):
                _take_if_free()


def _take_if_free() -> None:
    try:
        os.killpg(os.tcgetpgrp(0), 0)
    except ProcessLookupError:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        os.tcsetpgrp(0, os.getpgrp())
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
