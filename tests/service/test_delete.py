"""``hosting.vm.delete`` takes what it should, and nothing else."""

import pytest
from sqlalchemy import update

from api.store.database import Store
from api.store.models import Disk, Iface
from tests.service.client import Client, Struct
from tests.service.process import Service

pytestmark = pytest.mark.guest


def test_it_takes_the_system_disk_and_the_first_interface(service: Service, client: Client) -> None:
    before = service.inventory()
    image = client.image()
    here = image["datacenter_id"]
    # made before the VM, so not among what its creation could undo
    disk = client.call("hosting.disk.create_from", {"datacenter_id": here}, image["disk_id"])
    iface = client.call("hosting.iface.create", {"datacenter_id": here})
    client.done([disk, iface])
    spec = {
        "datacenter_id": here, "sys_disk_id": disk["disk_id"], "iface_id": iface["iface_id"], "memory": 128,
    }  # fmt: skip
    (operation,) = client.done(client.call("hosting.vm.create", spec))
    vm = operation["vm_id"]

    refusal = client.refusal("hosting.vm.delete", vm)
    assert refusal.faultCode == 530268
    assert client.vm(vm)["state"] == "running"

    service.domain(vm).destroy()
    client.in_state(vm, "halted")
    deletion = client.call("vm.delete", vm)
    assert (deletion["type"], deletion["vm_id"], deletion["step"]) == ("vm_delete", vm, "WAIT")
    client.done(deletion)
    for method, gone in (
        ("hosting.disk.info", disk["disk_id"]),
        ("hosting.iface.info", iface["iface_id"]),
        ("hosting.ip.info", iface["ip_id"]),
    ):
        assert client.refusal(method, gone).faultCode % 100 == 42
    assert client.call("hosting.vm.list", {"id": vm}) == []
    (ghost,) = client.call("hosting.vm.list", {"id": vm, "state": "deleted"})
    assert (ghost["disks_id"], ghost["ifaces_id"]) == ([], [])
    for method in ("delete", "start", "stop", "reboot"):
        assert client.refusal(f"hosting.vm.{method}", vm).faultCode == 530242
    service.settled(before)


def test_the_other_disks_and_interfaces_are_detached(service: Service, client: Client) -> None:
    before = service.inventory()
    here = client.image()["datacenter_id"]
    extra_disk = client.call("hosting.disk.create", {"datacenter_id": here, "size": 1024, "name": "extra"})
    extra_iface = client.call("hosting.iface.create", {"datacenter_id": here})
    client.done([extra_disk, extra_iface])
    vm = client.made({"memory": 128})
    service.domain(vm["id"]).destroy()
    client.in_state(vm["id"], "halted")
    # there is no call yet that attaches: the records say what one would have written
    store = Store(f"sqlite:///{service.state / 'store.db'}")
    with store.writing() as session:
        session.execute(
            update(Disk)
            .where(Disk.id == extra_disk["disk_id"])
            .values(vm_id=vm["id"], position=1, access="read")
        )
        session.execute(
            update(Iface)
            .where(Iface.id == extra_iface["iface_id"])
            .values(vm_id=vm["id"], num=1, state="used")
        )
    store.close()
    # the guest gets both
    client.done(client.call("hosting.vm.start", vm["id"]))
    xml = service.domain(vm["id"]).XMLDesc()
    assert f"ua-disk-{extra_disk['disk_id']}" in xml
    assert f"ua-iface-{extra_iface['iface_id']}" in xml
    service.domain(vm["id"]).destroy()
    client.in_state(vm["id"], "halted")

    client.done(client.call("hosting.vm.delete", vm["id"]))
    disk: Struct = client.call("hosting.disk.info", extra_disk["disk_id"])
    assert (disk["vms_id"], disk["state"], disk["is_boot_disk"]) == ([], "created", False)
    iface: Struct = client.call("hosting.iface.info", extra_iface["iface_id"])
    assert (iface["vm_id"], iface["num"], iface["state"]) == (None, None, "free")
    assert [ip["state"] for ip in iface["ips"]] == ["created", "created"]
    for method, gone in (("disk", vm["disks_id"][0]), ("iface", vm["ifaces_id"][0])):
        assert client.refusal(f"hosting.{method}.info", gone).faultCode % 100 == 42

    client.done(
        [
            client.call("hosting.disk.delete", extra_disk["disk_id"]),
            client.call("hosting.iface.delete", extra_iface["iface_id"]),
        ]
    )
    service.settled(before)


def test_a_vm_that_is_deleted_twice_goes_once(service: Service, client: Client) -> None:
    before = service.inventory()
    vm = client.made({"memory": 128})
    service.domain(vm["id"]).destroy()
    client.in_state(vm["id"], "halted")
    first = client.call("hosting.vm.delete", vm["id"])
    assert client.refusal("hosting.vm.delete", vm["id"]).faultCode in (530242, 530260)
    client.done(first)
    service.settled(before)
