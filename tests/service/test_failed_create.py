"""A creation that fails half-way says why, and leaves nothing."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirt
import pytest

from tests.conftest import NewService
from tests.service.client import Client, Struct
from tests.service.host import Door, Host
from tests.service.process import Service

pytestmark = pytest.mark.guest

_FOREIGN = """
<domain type='qemu'>
  <name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
</domain>
"""


def _failed(client: Client, operations: list[Struct], first: int, *words: str, seconds: float = 60) -> str:
    """All `operations` from number `first` on end in ERROR, the later ones because of it; its reason."""
    ended = client.finished(operations, seconds)
    assert [one["step"] for one in ended] == ["DONE"] * first + ["ERROR"] * (len(ended) - first)
    reason = str(ended[first]["last_error"])
    for word in words:
        assert word.lower() in reason.lower(), reason
    assert "Traceback" not in reason
    assert "internal error" not in reason.split(":")[0]
    for later in ended[first + 1 :]:
        assert f"operation {ended[first]['id']}" in later["last_error"]
        assert reason in later["last_error"]
    for vm_id in {one["vm_id"] for one in ended if one["vm_id"]}:
        assert client.refusal("hosting.vm.info", vm_id).faultCode == 530242
    return reason


@contextmanager
def _small(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of that size at `folder`."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "small", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(folder: Path, leave: int) -> Path:
    """Leave that many bytes of the file system free."""
    file = folder / ".filler"
    with file.open("wb") as filler:
        left = shutil.disk_usage(folder).free - leave
        while left > 0:
            left -= filler.write(b"\0" * min(left, 2**20))
    return file


def test_no_space_in_the_pool(new_service: NewService) -> None:
    service: Service = new_service()
    pool = service.pools / service.datacenters[0].pool
    with _small(pool, 32):
        client = service.start().client()
        # the disk does not fit
        filler = _fill(pool, 64 * 1024)
        before = service.inventory()
        _failed(client, client.create_from({}), 0, "no space left")
        service.settled(before)
        # the disk does, but not the seed
        filler.unlink()
        filler = _fill(pool, 240 * 1024)
        before = service.inventory()
        _failed(client, client.create_from({}), 2, "no space left")
        service.settled(before)
        # with space again, it works
        filler.unlink()
        before = service.inventory()
        vm = client.made({"memory": 128})
        service.discard(client, vm["id"])
        service.settled(before)
        service.dispose()


@pytest.mark.parametrize("how", ["gone", "garbage"])
def test_a_bad_image(new_service: NewService, how: str) -> None:
    service: Service = new_service()
    client = service.start().client()
    (base,) = (service.pools / service.datacenters[0].pool).glob("image-*.qcow2")
    if how == "gone":
        base.unlink()
    else:
        base.write_bytes(b"this is not a disk image\n" * 4096)
    before = service.inventory()
    _failed(client, client.create_from({"memory": 128}), 0, base.name)
    service.settled(before)


def test_a_foreign_domain_of_that_name(service: Service, client: Client, host: Host) -> None:
    # the number of a VM is not given twice: this is the next one
    last = client.made({"memory": 128})
    service.discard(client, last["id"])
    name = f"vm-{last['id'] + 1}"
    foreign = host.connection.defineXML(_FOREIGN.format(name=name))
    foreign.create()
    try:
        xml = foreign.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        before = service.inventory()
        operations = client.create_from({"memory": 128})
        assert operations[-1]["vm_id"] == last["id"] + 1
        _failed(client, operations, 2, name, "already exists")
        service.settled(before)
        assert foreign.isActive()
        assert foreign.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) == xml
    finally:
        foreign.destroy()
        foreign.undefine()


def test_a_free_disk_and_interface_survive_a_failed_creation(
    service: Service, client: Client, host: Host
) -> None:
    here = client.image()["datacenter_id"]
    image = client.image()["disk_id"]
    disk = client.call("hosting.disk.create_from", {"datacenter_id": here}, image)
    iface = client.call("hosting.iface.create", {"datacenter_id": here})
    client.done([disk, iface])
    before = service.inventory()
    last = client.made({"memory": 128})
    service.discard(client, last["id"])
    foreign = host.connection.defineXML(_FOREIGN.format(name=f"vm-{last['id'] + 1}"))
    try:
        spec = {"datacenter_id": here, "memory": 128}
        spec |= {"sys_disk_id": disk["disk_id"], "iface_id": iface["iface_id"]}
        _failed(client, client.call("hosting.vm.create", spec), 0, "already exists")
    finally:
        foreign.undefine()
    service.settled(before)
    shown = client.call("hosting.disk.info", disk["disk_id"])
    assert (shown["vms_id"], shown["state"], shown["is_boot_disk"]) == ([], "created", False)
    shown = client.call("hosting.iface.info", iface["iface_id"])
    assert (shown["vm_id"], shown["num"], shown["state"]) == (None, None, "free")
    # and may be used
    (made,) = client.done(client.call("hosting.vm.create", spec))
    service.discard(client, made["vm_id"])


def test_libvirt_is_away_for_a_moment(new_service: NewService, host: Host, tmp_path: Path) -> None:
    door = Door(tmp_path)
    service: Service = new_service(HYPERVISOR_LIBVIRT_URI=door.uri)
    client = service.start().client()
    before = service.inventory()
    door.close()
    host.kill_libvirtd()
    operations = client.create_from({"memory": 128})
    client.reached(operations[0], ["RUN"])
    # whatever needs no libvirt is answered meanwhile
    assert client.vm(operations[-1]["vm_id"])["state"] == "being_created"
    door.open()
    client.done(operations)
    service.discard(client, operations[-1]["vm_id"])
    service.settled(before)


def test_libvirt_stays_away(new_service: NewService, host: Host, tmp_path: Path) -> None:
    door = Door(tmp_path)
    service: Service = new_service(HYPERVISOR_LIBVIRT_URI=door.uri, HYPERVISOR_PATIENCE__LIBVIRT="5")
    client = service.start().client()
    before = service.inventory()
    door.close()
    host.kill_libvirtd()
    operations = client.create_from({"memory": 128})
    ended = client.finished(operations, 90)
    assert [one["step"] for one in ended] == ["ERROR"] * 3
    assert "does not answer: is libvirtd running?" in ended[0]["last_error"]
    # what was begun is taken back as soon as libvirt is there
    door.open()
    service.settled(before, 90)
    vm = client.made({"memory": 128})
    service.discard(client, vm["id"])
    service.settled(before)
