"""Who may read what a virtual machine is made of, and as whom it runs."""

import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lxml import etree

from tests.service.client import Client
from tests.service.host import Host
from tests.service.process import Service

pytestmark = pytest.mark.guest

_QEMU = Path("/etc/libvirt/qemu.conf")
# as libvirt comes, but for what a lab cannot have
_ITS_OWN = """
user = "libvirt-qemu"
group = "+{group}"
dynamic_ownership = 1
remember_owner = 0
namespaces = [ ]
cgroup_controllers = [ ]
"""


def files(service: Service, vm_id: int) -> list[Path]:
    """The disks of the VM, its seed among them, and the log of its console."""
    root = etree.fromstring(service.domain(vm_id).XMLDesc().encode())
    assert root.find("seclabel[@type='none']") is None
    found = [element.get("file", "") for element in root.iterfind("devices/disk/source")]
    found += [element.get("file", "") for element in root.iterfind("devices/serial/log")]
    assert len(found) == 3
    return [Path(name) for name in found]


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


def test_others_read_nothing_of_it(service: Service, client: Client) -> None:
    operations = client.create_from({"hostname": "shut"}, {"name": "shut"})
    client.done(operations)
    vm_id = operations[-1]["vm_id"]
    try:
        assert [mode(file) for file in files(service, vm_id)] == [0o600] * 3
        snapshot = client.call("hosting.disk.create", {"name": "copy", "datacenter_id": 1, "size": 1024})
        client.done([snapshot])
        everything = [file for file in service.pools.rglob("*") if file.is_file()]
        assert len(everything) >= 3
        assert [file for file in everything if mode(file) & 0o077] == []
        secrets = [file for name in ("*.db*", "apikey", "console/*") for file in service.state.glob(name)]
        assert secrets
        assert [file for file in secrets if mode(file) & 0o077] == []
        client.done([client.call("hosting.disk.delete", snapshot["disk_id"])])
    finally:
        service.discard(client, vm_id)


@contextmanager
def qemu_of_its_own(host: Host, group: int) -> Iterator[None]:
    """QEMU runs as libvirt has it run when nobody tells it otherwise."""
    before = _QEMU.read_text()
    # who cannot open the real one makes libvirt ask QEMU anew for everything
    subprocess.run(["mount", "--bind", "/dev/null", "/dev/kvm"], check=Path("/dev/kvm").exists())
    try:
        _QEMU.write_text(_ITS_OWN.format(group=group))
        host.kill_libvirtd()
        yield
    finally:
        subprocess.run(["umount", "/dev/kvm"], check=Path("/dev/kvm").exists())
        _QEMU.write_text(before)
        host.kill_libvirtd()


def test_qemu_runs_as_a_user_of_its_own(host: Host) -> None:
    try:
        user = pwd.getpwnam("libvirt-qemu")
    except KeyError:
        pytest.skip("this host has no user libvirt-qemu")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, qemu_of_its_own(host, user.pw_gid):
        Path(folder).chmod(0o711)
        service = Service(Path(folder) / "state", host)
        try:
            client = service.start().client()
            operations = client.create_from({"hostname": "own"}, {"name": "own"})
            client.done(operations)
            vm_id = operations[-1]["vm_id"]
            status = Path(f"/proc/{service.qemu(vm_id)}/status").read_text()
            assert f"Uid:\t{user.pw_uid}\t{user.pw_uid}" in status
            assert [mode(file) for file in files(service, vm_id)] == [0o600] * 3
            service.discard(client, vm_id)
        finally:
            service.dispose()
