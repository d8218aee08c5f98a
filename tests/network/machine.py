"""A real guest on a network, without the service."""

import subprocess
import uuid
from pathlib import Path

from api.settings import Settings
from hypervisor.domain.spec import DiskSpec, DomainSpec, InterfaceSpec
from hypervisor.seed import Seed, build_iso
from tests.service.guest import Identity


def tiny(name: str, interface: InterfaceSpec, identity: Identity, folder: Path) -> DomainSpec:
    """A tiny guest with its disks in `folder`, for `power.define`."""
    folder.chmod(0o755)
    image = Settings().images / "tiny.qcow2"
    assert image.exists(), f"there is no {image}: run `hypervisor image build tiny` before"
    disk = folder / "disk.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image.resolve(), disk], check=True
    )
    seed = folder / "seed.iso"
    seed.write_bytes(build_iso(Seed(name, name, ssh_keys=(identity.public,))))
    return DomainSpec(
        str(uuid.uuid4()), name, 1, 1, 256, 256, accelerated=False,
        console_log=folder / "console.log",
        disks=(
            DiskSpec("ua-disk-1", disk, "vda", boot=1),
            DiskSpec("ua-disk-2", seed, "vdb", "raw", readonly=True),
        ),
        interfaces=(interface,),
        labels={"vm": "1"},
    )  # fmt: skip
