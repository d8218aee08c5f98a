"""What single calls cost."""

import re
import socket
import time
from pathlib import Path
from statistics import quantiles

from tests.bench.service import Client

_CALLS = 400
_BOOT = 60.0  # seconds


def measure(client: Client) -> dict[str, list[float]]:
    """Seconds of each call, by method; the calls take turns."""
    image = client.call("hosting.image.list", {"label": "Tiny"})[0]
    where = {"datacenter_id": image["datacenter_id"]}
    operations = client.call(
        "hosting.vm.create_from", {**where, "hostname": "measured", "memory": 256}, where, image["disk_id"]
    )
    client.finish(operations[-1])
    vm_id, operation_id = operations[-1]["vm_id"], operations[-1]["id"]
    (iface,) = client.call("hosting.vm.info", vm_id)["ifaces"]
    iface_id = iface["id"]
    wait_for_ssh(iface["ips"][0]["ip"])
    times: dict[str, list[float]] = {}
    for number in range(_CALLS):
        calls: list[tuple[str, tuple[object, ...]]] = [
            ("version.info", ()),
            ("hosting.vm.info", (vm_id,)),
            ("operation.info", (operation_id,)),
        ]
        if number % 4 == 0:
            calls.append(("hosting.iface.update", (iface_id, {"bandwidth": 1000.0 + number})))
        for method, arguments in calls:
            answer, elapsed = client.timed(method, *arguments)
            times.setdefault(method, []).append(elapsed)
            if method == "hosting.iface.update":
                client.finish(answer)
    client.finish(client.call("hosting.vm.stop", vm_id))
    client.finish(client.call("hosting.vm.delete", vm_id))
    return times


def served(log: Path, begin: int) -> dict[str, list[float]]:
    """Seconds of each call in the server alone, as its log has them from the byte `begin` on, by method."""
    times: dict[str, list[float]] = {}
    lines = log.read_bytes()[begin:].decode()
    for method, milliseconds in re.findall(r" (\S+) fault=0 ([\d.]+) ms$", lines, re.MULTILINE):
        times.setdefault(method, []).append(float(milliseconds) / 1000)
    return times


def wait_for_ssh(address: str) -> None:
    """A guest that boots would share the two cores with what is measured."""
    deadline = time.monotonic() + _BOOT
    while True:
        try:
            with socket.create_connection((address, 22), timeout=_BOOT) as connection:
                if connection.recv(1):
                    return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def percentile(times: list[float], percent: int) -> float:
    """The `percent`-th percentile."""
    return quantiles(times, n=100)[percent - 1]
