"""PID 1 of a lab: builds the namespaces, starts libvirt, runs the command, reaps, ends everything.

It runs in an interpreter of its own, so that it is one thread with little memory whatever the caller is. It
waits in ``sigwaitinfo`` and nowhere else: an orphaned QEMU is reaped the moment it ends, which is what
libvirt waits for.
"""

import json
import os
import select
import signal
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from hypervisor.lab import namespace, processes
from hypervisor.lab.daemons import PROGRAMS, Daemon
from hypervisor.lab.errors import LabError, complain
from hypervisor.lab.signals import WATCHED, from_terminal, shell_status
from hypervisor.lab.syscalls import die_with_parent

#: Seconds until libvirt must answer; capability probing alone takes some on a busy machine.
_START_LIMIT = 60.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the caller tells PID 1."""

    command: list[str]
    pass_fds: list[int]
    folder: str
    hostname: str

    def encode(self) -> bytes:
        """The plan as one line."""
        return json.dumps(asdict(self)).encode() + b"\n"


def main(descriptor: int) -> NoReturn:
    """Entry point of the interpreter; ``descriptor`` is our end of the socket pair to the caller."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    die_with_parent(signal.SIGKILL)
    with socket.socket(fileno=descriptor) as control, control.makefile("rb") as lines:
        control.set_inheritable(False)
        if _hung_up(control):
            os._exit(LabError.exit_status)  # the caller ended before it could become our parent in death
        plan = Plan(**json.loads(lines.readline()))
        try:
            status = _Init(plan).run(control)
        except (LabError, OSError) as error:
            control.sendall(json.dumps({"error": str(error)}).encode() + b"\n")
            status = LabError.exit_status
    # PID 1's end takes whatever is left in the namespace with it.
    os._exit(status)


def _hung_up(control: socket.socket) -> bool:
    poll = select.poll()
    poll.register(control, select.POLLHUP)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


class _Init:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._daemons = [Daemon(program) for program in PROGRAMS]
        for number in plan.pass_fds:
            os.set_inheritable(number, False)  # for the command only, not for the daemons

    def run(self, control: socket.socket) -> int:
        namespace.build(Path(self._plan.folder), self._plan.hostname)
        for daemon in self._daemons:
            daemon.start()
        try:
            if number := self._until_answering():
                return 128 + number
            control.sendall(b'{"ready": true}\n')
            control.recv(1)  # the caller has written the run file
            return self._supervise()
        finally:
            self._end()

    def _until_answering(self) -> int:
        """Wait until libvirt answers; the number of a signal that ended the wait, else 0."""
        deadline = time.monotonic() + _START_LIMIT
        for daemon in self._daemons:
            while not daemon.answers(patience=0.5):
                if time.monotonic() > deadline:
                    raise LabError(f"{daemon.program} did not answer within {_START_LIMIT:.0f} seconds")
                info = signal.sigtimedwait(WATCHED, 0.01)
                if info is not None and info.si_signo != signal.SIGCHLD:
                    return info.si_signo
                for pid, _ in processes.reap():
                    for ended in self._daemons:
                        if ended.pid == pid:
                            raise ended.failure()
        return 0

    def _supervise(self) -> int:
        child = self._spawn()
        if child < 0:
            return -child
        while True:
            info = signal.sigwaitinfo(WATCHED)
            if info.si_signo != signal.SIGCHLD:
                if not from_terminal(info):
                    os.kill(child, info.si_signo)
                continue
            for pid, status in processes.reap():
                if pid == child:
                    return shell_status(status)
                self._restart(pid)

    def _spawn(self) -> int:
        """Start the command; its process id, or the negative exit status to end with."""
        command, environment = self._plan.command, dict(os.environ)
        for number in self._plan.pass_fds:
            os.set_inheritable(number, True)
        try:
            # Python ignores SIGPIPE; the command must not.
            return os.posix_spawnp(
                command[0], command, environment, setsigmask=[], setsigdef=[signal.SIGPIPE, signal.SIGXFSZ]
            )
        except OSError as error:
            complain(f"{command[0]}: {error.strerror}")
            return -127 if isinstance(error, FileNotFoundError) else -126
        finally:
            for number in self._plan.pass_fds:
                if number > 2:
                    os.close(number)

    def _restart(self, pid: int) -> None:
        # As a service manager would: a libvirtd that is killed comes back, its QEMUs meanwhile run on.
        for daemon in self._daemons:
            if daemon.pid == pid:
                if time.monotonic() - daemon.started > 1:
                    daemon.forget_unborn()
                    daemon.start()
                else:
                    complain(str(daemon.failure()))

    def _end(self) -> None:
        # QEMU first and gently: it writes its images' metadata, and libvirtd sees the domain end.
        daemons = {daemon.pid for daemon in self._daemons}
        others = processes.others() - daemons
        if not processes.ended(others, keep=daemons):
            processes.send(others, signal.SIGKILL)
        processes.ended(daemons)
