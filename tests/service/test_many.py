"""Twenty virtual machines at once."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import NewService, Reach
from tests.service.client import address
from tests.service.guest import Identity
from tests.service.host import hold_back
from tests.service.process import Service

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

MANY = 20
# for all of them to boot under emulation, beside each other
BOOTS = 400.0


def test_twenty_at_once(new_service: NewService, identity: Identity, reach: Reach) -> None:
    service: Service = new_service(HYPERVISOR_PATIENCE__STOP="120", HYPERVISOR_PATIENCE__STOP_AGAIN="60")
    client = service.start().client()
    before = service.inventory()
    clients = [service.client() for _ in range(MANY)]
    with ThreadPoolExecutor(MANY) as pool:
        asked = list(
            pool.map(
                lambda number: clients[number].create_from(
                    {"hostname": f"many-{number}", "ssh_key": identity.public, "memory": 256}
                ),
                range(MANY),
            )
        )
        begun = time.monotonic()
        client.done([one for operations in asked for one in operations], 300)
        # guests of other tests, beside these twenty, have to boot within a time
        hold_back(*(service.qemu(operations[-1]["vm_id"]) for operations in asked))
        print(f"{MANY} VMs made in {time.monotonic() - begun:.1f} s")
        vms = [client.vm(operations[-1]["vm_id"]) for operations in asked]
        assert [vm["state"] for vm in vms] == ["running"] * MANY
        assert len({address(vm) for vm in vms} | {address(vm, 6) for vm in vms}) == 2 * MANY
        assert client.call("hosting.vm.count", {"state": "running"}) == MANY

        said = list(pool.map(lambda vm: reach(vm, seconds=BOOTS).run("hostname"), vms))
        print(f"... reached in {time.monotonic() - begun:.1f} s")
        assert said == [f"many-{number}" for number in range(MANY)]

        # each deletion waits for its stop
        stops = [client.call("hosting.vm.stop", vm["id"]) for vm in vms]
        deletions = [client.call("hosting.vm.delete", vm["id"]) for vm in vms]
        client.done([*stops, *deletions], 300)
        print(f"... gone in {time.monotonic() - begun:.1f} s")
    assert client.call("hosting.vm.list") == []
    service.settled(before)
