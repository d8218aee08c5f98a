"""libvirtd is killed in the middle of a step: that is done again, and what came of it is recorded."""

import os
import signal
import subprocess

import pytest

from tests.faults.town import Town
from tests.faults.workload import SIZE, View
from tests.service.host import libvirtd
from tests.service.waiting import until

pytestmark = pytest.mark.guest


def _asked() -> int:
    """How many bytes wait to be read by libvirtd."""
    said = subprocess.run(["ss", "-xH", "state", "connected"], check=True, capture_output=True, text=True)
    lines = [line.split() for line in said.stdout.splitlines() if "/run/libvirt/libvirt-sock" in line]
    return sum(int(line[2]) for line in lines)


def test_a_growth_is_done_again(town: Town) -> None:
    client = town.service.client()
    here = sorted(View.take(client).images)[0]
    (made,) = client.done(client.call("hosting.disk.create", {"datacenter_id": here, "size": SIZE}))
    os.kill(libvirtd(), signal.SIGSTOP)
    growth = client.call("hosting.disk.update", made["disk_id"], {"size": 2 * SIZE})
    client.reached(growth, ["RUN"])
    until(lambda: _asked() > 0, 10, "libvirt is asked to grow the volume")
    town.host.kill_libvirtd()
    client.done(growth)
    assert client.call("hosting.disk.info", made["disk_id"])["size"] == 2 * SIZE
    client.done(client.call("hosting.disk.delete", made["disk_id"]))
