"""A guest that is a network namespace joined to a bridge by a veth pair, with real DHCP clients in it."""

import json
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).with_name("dhcpv6_client.py")
# say what was given instead of setting it up
SCRIPT = """#!/bin/sh
[ "$1" = bound ] && echo "$ip $mask ${hostname:--} ${router:--} ${lease}
$dns" > "$0.out"
exit 0
"""


class Guest:
    """One interface, `eth0`, in a namespace of that name."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self.resolvers: list[str] = []
        _run("ip", "netns", "add", name)

    def plug(self, bridge: str, mac: str, interface: str = "eth0", tap: str | None = None) -> None:
        """Join the bridge, ready at once: no duplicate address detection, no delay before solicitations.

        `tap` is the name on the host of an interface that is to pass for a machine's.
        """
        tap = tap or self.tap(interface)
        _run("ip", "link", "add", tap, "type", "veth", "peer", "name", interface, "netns", self.name)
        for setting in ("accept_dad=0", "dad_transmits=0", "router_solicitation_delay=0"):
            self.run("sysctl", "-qw", f"net.ipv6.conf.{interface}.{setting}")
        self.run("ip", "link", "set", interface, "address", mac)
        _run("ip", "link", "set", tap, "master", bridge, "up")
        self.run("ip", "link", "set", interface, "up")

    def tap(self, interface: str = "eth0") -> str:
        """The end of the veth pair that is on the bridge, where a machine has its tap."""
        return f"v{self.name[2:]}{interface[-1]}"

    def remove(self) -> None:
        """Let go of the namespace, and with it of the interfaces."""
        _run("ip", "netns", "delete", self.name)

    def run(self, *command: str) -> str:
        """Run a command in the guest; what it wrote."""
        return _run("ip", "netns", "exec", self.name, *command)

    def dhcp(self, interface: str = "eth0", attempts: int = 2) -> list[str]:
        """Address, prefix length, host name, router, lease in seconds by DHCPv4 (udhcpc); empty for none.

        The DNS servers that were offered are then in `resolvers`.
        """
        script = self._folder / f"{self.name}-udhcpc"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        answer = script.with_name(f"{script.name}.out")
        answer.unlink(missing_ok=True)
        options = ["-i", interface, "-n", "-q", "-f", "-t", str(attempts), "-T", "1", "-s", str(script)]
        subprocess.run(
            ["ip", "netns", "exec", self.name, "busybox", "udhcpc", *options],
            check=False,
            capture_output=True,
        )
        given, resolvers = answer.read_text().splitlines() if answer.exists() else ("", "")
        self.resolvers = resolvers.split()
        return given.split()

    def dhcp6(self, duid: str, iaid: int = 1, interface: str = "eth0") -> list[str]:
        """The addresses that DHCPv6 gives to a client with that DUID (hexadecimal)."""
        answer = self.run(sys.executable, str(CLIENT), interface, duid, str(iaid))
        addresses: list[str] = json.loads(answer)
        return addresses

    def autoconfigured(self, interface: str = "eth0") -> str:
        """The first address that the kernel formed from a router advertisement; waits for it."""
        with subprocess.Popen(
            ["ip", "netns", "exec", self.name, "ip", "-6", "-o", "monitor", "address", "dev", interface],
            stdout=subprocess.PIPE,
            text=True,
        ) as monitor:
            try:
                present = self.run("ip", "-6", "-o", "address", "show", "dev", interface, "scope", "global")
                assert monitor.stdout is not None
                text = present or next(line for line in monitor.stdout if "scope global" in line)
            finally:
                monitor.kill()
        return text.split()[3]


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
