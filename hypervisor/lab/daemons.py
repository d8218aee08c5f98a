"""libvirtd and virtlogd of a lab: start, ask whether they answer, know them again when they end."""

import os
import re
import signal
import socket
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

from hypervisor.lab.errors import LabError

#: Programs without which there is no lab.
PROGRAMS = ("libvirtd", "virtlogd")

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOGS = Path("/var/log/libvirt")
_STATUS = Path("/run/libvirt/qemu")
_SOCKETS = {"libvirtd": "/run/libvirt/libvirt-sock", "virtlogd": "/run/libvirt/virtlogd-sock"}

# The smallest question of libvirt's wire protocol (program, version, procedure AUTH_LIST, call, serial,
# status): its length in front, no body. libvirtd takes it up only once all of its drivers are ready;
# connecting alone says nothing.
_QUESTION = struct.pack(">7I", 28, 0x20008086, 1, 66, 0, 0, 0)


def search_path() -> str:
    """PATH with the system's administration folders, which a user's own often lacks."""
    return os.environ.get("PATH", "") + ":" + _PATH


@dataclass
class Daemon:
    """One daemon, in a session of its own so that the terminal's Ctrl-C does not reach it."""

    program: str
    pid: int = 0
    started: float = field(default=0.0)

    def start(self) -> None:
        """Start it, or start it again.

        Raises:
            OSError: the program cannot be run.
        """
        # Its usual file lies outside the private folders, where the host's own daemon has it.
        command = [self.program, "--pid-file", f"/run/libvirt/{self.program}.pid"]
        # None of the caller's environment: no socket activation, no readiness protocol, no user's library
        # paths.
        environment = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": "/root"}
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self._output), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        self.started = time.monotonic()
        self.pid = os.posix_spawnp(
            self.program,
            command,
            environment,
            file_actions=actions,
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGINT],
        )

    def forget_unborn(self) -> None:
        """Let the next libvirtd know nothing of domains that this one ended in the middle of starting.

        libvirt 9.0 would take one without a process for a running one whose start goes on, and refuse for
        ever to stop it.
        """
        for status in _STATUS.glob("*.xml"):
            if re.search(rb"<domstatus [^>]*pid='0'", status.read_bytes()):
                status.unlink()

    def answers(self, patience: float) -> bool:
        """Whether it answers on its socket within ``patience`` seconds."""
        with socket.socket(socket.AF_UNIX) as handle:
            handle.settimeout(patience)
            try:
                handle.connect(_SOCKETS[self.program])
                if self.program == "virtlogd":
                    return True
                handle.sendall(_QUESTION)
                return len(handle.recv(4)) == 4
            except OSError:
                return False

    def failure(self) -> LabError:
        """The error to raise when it ended by itself, with the end of what it said."""
        said = ""
        for path in (self._output, _LOGS / f"{self.program}.log"):
            if path.exists():
                said += "".join(f"\n  {line}" for line in path.read_text(errors="replace").splitlines()[-5:])
        return LabError(f"{self.program} ended instead of answering:{said or ' it said nothing'}")

    @property
    def _output(self) -> Path:
        return _LOGS / f"{self.program}.output"
