"""Work on one object is done in the order of its acceptance; work on others does not wait for it."""

import time

import pytest

from tests.conftest import NewService
from tests.service.client import Client
from tests.service.host import suspended_libvirtd
from tests.service.process import Service

pytestmark = pytest.mark.guest


def test_calls_without_waiting_work_in_order(service: Service, client: Client) -> None:
    before = service.inventory()
    created = client.create_from({"memory": 128})
    vm_id = created[-1]["vm_id"]
    # it may be spoken of before it exists
    stop = client.call("hosting.vm.stop", vm_id)
    delete = client.call("hosting.vm.delete", vm_id)
    client.done([*created, stop, delete], 90)
    starts = [client.operation(one["id"])["date_start"] for one in (created[-1], stop, delete)]
    assert starts == sorted(starts)
    service.settled(before)


def test_contradictory_calls(service: Service, client: Client) -> None:
    before = service.inventory()
    vm = client.made({"memory": 128})
    stop = client.call("hosting.vm.stop", vm["id"])
    # a stop of what is being stopped, a start of what is about to be deleted
    assert client.refusal("hosting.vm.stop", vm["id"]).faultCode == 530260
    assert client.refusal("hosting.vm.reboot", vm["id"]).faultCode == 530260
    start = client.call("hosting.vm.start", vm["id"])
    assert client.refusal("hosting.vm.delete", vm["id"]).faultCode == 530268
    again = client.call("hosting.vm.stop", vm["id"])
    delete = client.call("hosting.vm.delete", vm["id"])
    assert client.refusal("hosting.vm.start", vm["id"]).faultCode in (530242, 530260)
    client.done([stop, start, again, delete], 120)
    service.settled(before)


def test_a_waiting_operation_is_cancelled(service: Service, client: Client) -> None:
    before = service.inventory()
    vm = client.made({"memory": 128})
    stop = client.call("hosting.vm.stop", vm["id"])
    delete = client.call("hosting.vm.delete", vm["id"])
    assert client.call("operation.cancel", delete["id"]) == 1
    assert client.operation(delete["id"])["step"] == "CANCEL"
    assert client.refusal("operation.cancel", delete["id"]).faultCode == 510290
    client.done(stop)
    assert client.refusal("operation.cancel", stop["id"]).faultCode == 510290
    assert client.vm(vm["id"])["state"] == "halted"
    client.done(client.call("hosting.vm.delete", vm["id"]))
    service.settled(before)


def test_a_cancelled_creation_leaves_nothing(service: Service, client: Client) -> None:
    here = client.image()["datacenter_id"]
    disk = client.call("hosting.disk.create", {"datacenter_id": here, "size": 1024})
    client.done(disk)
    before = service.inventory()
    with suspended_libvirtd():
        # holds the disk, so that the creation waits
        grow = client.call("hosting.disk.update", disk["disk_id"], {"size": 2048})
        operations = client.call(
            "hosting.vm.create", {"datacenter_id": here, "sys_disk_id": disk["disk_id"], "memory": 128}
        )
        client.reached(grow, ["RUN"])
        # one of them takes all of them back
        assert client.call("operation.cancel", operations[0]["id"]) == 1
        assert {client.operation(one["id"])["step"] for one in operations} == {"CANCEL"}
        assert client.refusal("hosting.vm.info", operations[-1]["vm_id"]).faultCode == 530242
        assert client.refusal("operation.cancel", grow["id"]).faultCode == 510290
    client.done(grow)
    service.settled(before)
    assert client.call("hosting.disk.info", disk["disk_id"])["vms_id"] == []
    client.done(client.call("hosting.disk.delete", disk["disk_id"]))


def test_a_copy_is_as_large_as_its_source_will_be(service: Service, client: Client) -> None:
    before = service.inventory()
    here = client.image()["datacenter_id"]
    disk = client.call("hosting.disk.create", {"datacenter_id": here, "size": 1024})
    client.done(disk)
    with suspended_libvirtd():
        # both copies wait for it
        growth = client.call("hosting.disk.update", disk["disk_id"], {"size": 2048})
        copies = [
            client.call("hosting.disk.create_from", {"type": kind}, disk["disk_id"])
            for kind in ("data", "snapshot")
        ]
        smaller = client.refusal("hosting.disk.create_from", {"size": 1024}, disk["disk_id"])
        assert "size: 1024 MiB is less than the 2048 MiB of its source" in smaller.faultString
    client.done([growth, *copies])
    for one in (disk, *copies):
        assert client.call("hosting.disk.info", one["disk_id"])["size"] == 2048
        (file,) = (service.pools / service.datacenters[0].pool).glob(f"disk-{one['disk_id']}-*")
        assert service.host.connection.storageVolLookupByPath(str(file)).info()[1] == 2048 * 1024**2
    client.done([client.call("hosting.disk.delete", one["disk_id"]) for one in (disk, *copies)])
    service.settled(before)


def test_what_was_attached_meanwhile_is_not_touched(service: Service, client: Client) -> None:
    before = service.inventory()
    here = client.image()["datacenter_id"]
    there = next(one["id"] for one in client.call("hosting.datacenter.list") if one["id"] != here)
    disks = [client.call("hosting.disk.create", {"datacenter_id": here, "size": 1024}) for _ in range(3)]
    ifaces = [client.call("hosting.iface.create", {"datacenter_id": here}) for _ in range(2)]
    client.done([*disks, *ifaces])
    system, data, moving = (one["disk_id"] for one in disks)
    card, going = (one["iface_id"] for one in ifaces)
    snapshot = client.call("hosting.disk.create_from", {"type": "snapshot"}, moving)
    client.done(snapshot)
    # a VM that has no system: its stop takes a while, and all of this waits for it
    created = client.call("hosting.vm.create", {"datacenter_id": here, "sys_disk_id": system, "memory": 128})
    client.done(created)
    vm = created[-1]["vm_id"]
    stop = client.call("hosting.vm.stop", vm)
    client.reached(stop, ["RUN"])
    attached = [client.call("hosting.vm.disk_attach", vm, one) for one in (data, moving)]
    attached += [client.call("hosting.vm.iface_attach", vm, one) for one in (card, going)]
    refused = [
        client.call("hosting.disk.delete", data),
        client.call("hosting.disk.rollback_from", snapshot["disk_id"]),
        client.call("hosting.disk.migrate", moving, there),
        client.call("hosting.iface.delete", card),
        client.call("hosting.iface.migrate", going, there),
    ]
    service.domain(vm).destroy()
    client.done([stop, *attached])
    for one in client.finished(refused, 30):
        assert one["step"] == "ERROR", one
        assert f"was attached to vm#{vm} meanwhile: detach it" in one["last_error"]
    assert sorted(client.vm(vm)["disks_id"]) == sorted([system, data, moving])
    assert {card, going} < set(client.vm(vm)["ifaces_id"])
    assert len([*(service.pools / service.datacenters[0].pool).glob(f"disk-{data}-*")]) == 1
    client.done(client.call("hosting.vm.start", vm))
    service.discard(client, vm)
    client.done([client.call("hosting.disk.delete", one) for one in (data, moving, snapshot["disk_id"])])
    client.done([client.call("hosting.iface.delete", one) for one in (card, going)])
    service.settled(before)


def test_a_deletion_leaves_what_was_detached_before(service: Service, client: Client) -> None:
    before = service.inventory()
    vm = client.made({"memory": 128})
    (disk,), (iface,) = vm["disks_id"], vm["ifaces_id"]
    service.domain(vm["id"]).destroy()
    client.in_state(vm["id"], "halted")
    with suspended_libvirtd():
        # none of it can be done before all of it is accepted
        calls = [
            client.call("hosting.vm.disk_detach", vm["id"], disk),
            client.call("hosting.vm.iface_detach", vm["id"], iface),
            client.call("hosting.vm.delete", vm["id"]),
        ]
    client.done(calls)
    assert client.call("hosting.disk.info", disk)["vms_id"] == []
    assert client.call("hosting.iface.info", iface)["vm_id"] is None
    assert len([*(service.pools / service.datacenters[0].pool).glob(f"disk-{disk}-*")]) == 1
    client.done([client.call("hosting.disk.delete", disk), client.call("hosting.iface.delete", iface)])
    service.settled(before)


def test_stops_that_wait_do_not_hold_others_up(new_service: NewService) -> None:
    service: Service = new_service(
        HYPERVISOR_PATIENCE__STOP="600",
        HYPERVISOR_PATIENCE__STOP_AGAIN="300",
        HYPERVISOR_PATIENCE__REBOOT="600",
    )
    client = service.start().client()
    before = service.inventory()
    # 64 MiB of a VM that has no system: nobody hears the message
    here = client.image()["datacenter_id"]
    count = 12
    disks = [client.call("hosting.disk.create", {"datacenter_id": here, "size": 1024}) for _ in range(count)]
    created = [
        client.call(
            "hosting.vm.create", {"datacenter_id": here, "sys_disk_id": one["disk_id"], "memory": 128}
        )
        for one in disks
    ]
    client.done([one for operations in created for one in operations], 120)
    vms = [operations[-1]["vm_id"] for operations in created]
    waiting = [
        client.call("hosting.vm.stop" if number % 2 else "hosting.vm.reboot", vm_id)
        for number, vm_id in enumerate(vms)
    ]
    for one in waiting:
        client.reached(one, ["RUN"])
    begun = time.monotonic()
    client.done(client.create_from({"memory": 128}), 30)
    took = time.monotonic() - begun
    assert {client.operation(one["id"])["step"] for one in waiting} == {"RUN"}
    assert took < 10, f"a creation took {took:.1f} s beside {count} waiting operations"
    # and a restart with all of them under way does not lose one
    service.terminate()
    service.start()
    for vm_id in vms:
        service.domain(vm_id).destroy()
    # a reboot of what is off is a start
    client.done(waiting, 60)
    assert client.call("hosting.vm.count", {"state": "running"}) == count // 2 + 1
    every = client.call("hosting.vm.list", {"items_per_page": 100})
    service.discard(client, *(vm["id"] for vm in every))
    service.settled(before, 30)
