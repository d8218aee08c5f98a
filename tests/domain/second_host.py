"""A second host: a libvirtd in namespaces of its own, joined to the lab by a cable."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import libvirt

from hypervisor.connection import Connection
from hypervisor.lab import find
from tests.connection.daemon import OwnLab

HERE, THERE = "10.98.7.1", "10.98.7.2"
BRIDGE, NETWORK = "td-there", "test-there"


class SecondHost:
    """The host `THERE`, with a network."""

    def __init__(self, lab: OwnLab) -> None:
        self.lab = lab
        self.lasting = Connection(lab.uri)
        self.lasting.start()

    @property
    def handle(self) -> libvirt.virConnect:
        """Its libvirt, once that answers."""
        return self.lasting.handle(wait=30)

    def run(self, *command: str) -> None:
        """Run a command in its network and mount namespaces."""
        init = str(find(self.lab.name).pid)
        run("nsenter", "--target", init, "--net", "--mount", *command)

    def plug_in(self, bridge: str) -> None:
        """Lay the cable from the bridge here to the one there."""
        self.handle.networkCreateXML(f"<network><name>{NETWORK}</name><bridge name='{BRIDGE}'/></network>")
        init = str(find(self.lab.name).pid)
        run("ip", "link", "add", "td-cable", "type", "veth", "peer", "name", "td-cable", "netns", init)
        run("ip", "link", "set", "td-cable", "master", bridge, "up")
        run("ip", "address", "add", f"{HERE}/24", "dev", bridge)
        self.run("ip", "link", "set", "td-cable", "master", BRIDGE, "up")
        self.run("ip", "address", "add", f"{THERE}/24", "dev", BRIDGE)

    def end(self, bridge: str) -> None:
        """Let go of everything."""
        self.lasting.stop()
        self.lab.end()
        # the end here goes with the one there, once the kernel comes to it
        subprocess.run(["ip", "link", "delete", "td-cable"], check=False, capture_output=True)
        with suppress(subprocess.CalledProcessError):
            run("ip", "address", "delete", f"{HERE}/24", "dev", bridge)


@contextmanager
def second_host(state: Path, bridge: str) -> Iterator[SecondHost]:
    """Have a second host whose network is joined to the bridge `bridge`."""
    lab = OwnLab(f"there-{os.getpid()}", state / "lab")
    lab.start()
    host = SecondHost(lab)
    try:
        host.plug_in(bridge)
        yield host
    finally:
        host.end(bridge)


def run(*command: str) -> str:
    """Run a command; what it wrote."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
