"""A lab of the test's own, whose libvirtd may be killed and stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from hypervisor.connection import answers
from hypervisor.lab import find
from tests.service.waiting import until

ROOT = Path(__file__).resolve().parents[2]


class OwnLab:
    """A lab named `name` that keeps its folders in `state`; its libvirt is at `uri` once `start` returned."""

    def __init__(self, name: str, state: Path) -> None:
        self.name = name
        self.uri = f"qemu+unix:///system?socket={state}/run/libvirt-sock"
        self._state = state
        self._answered = 0.0
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the lab; returns when its libvirt answers."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "hypervisor.lab", "--name", self.name, "--state", str(self._state)),
                *("--", "sh", "-c", "echo ready; exec cat"),
            ],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        self._answered = time.monotonic()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the lab's libvirtd."""
        self._outlive_first_second()
        os.kill(self._libvirtd(), number)

    def settled(self) -> None:
        """Wait for the successor of a libvirtd that was killed, until it may be killed at once."""
        until(lambda: answers(self.uri), 20, "the lab's next libvirtd answers")
        self._answered = time.monotonic()
        self._outlive_first_second()

    def _outlive_first_second(self) -> None:
        # a lab takes a libvirtd that ends in its first second for one that cannot run
        time.sleep(max(0.0, self._answered + 1 - time.monotonic()))

    def end(self) -> None:
        """End the lab."""
        if self._process is not None:
            self._process.communicate("", timeout=30)

    def _libvirtd(self) -> int:
        init = find(self.name).pid
        for process in Path("/proc").glob("[0-9]*"):
            fields = (process / "stat").read_text().rpartition(")")
            if fields[0].endswith("(libvirtd") and int(fields[2].split()[1]) == init:
                return int(process.name)
        raise AssertionError("no libvirtd in the lab")
