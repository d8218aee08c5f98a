"""What is wrong is refused, with the fault that names it, before anything is made."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.service.client import Client, Struct
from tests.service.guest import Identity
from tests.service.inventory import Inventory, count_operations
from tests.service.process import Service

pytestmark = pytest.mark.guest


@dataclass(frozen=True)
class World:
    """A running VM, a halted one, and free things, in the first datacenter and in the second."""

    service: Service
    client: Client
    here: int
    there: int
    image: int
    elsewhere: int
    running: Struct
    halted: Struct
    disk: int
    iface: int
    far_disk: int
    far_iface: int

    def spec(self, **changes: Any) -> Struct:
        """A good VMCreateFromDescription but for the `changes`."""
        return {"datacenter_id": self.here, "memory": 128, **changes}


@pytest.fixture(scope="module")
def world(service: Service, client: Client) -> Iterator[World]:
    first, second = (one["id"] for one in client.call("hosting.datacenter.list"))
    image = client.image("Tiny", first)["disk_id"]
    disks = [
        client.call("hosting.disk.create", {"datacenter_id": dc, "size": 2048}) for dc in (first, second)
    ]
    ifaces = [client.call("hosting.iface.create", {"datacenter_id": dc}) for dc in (first, second)]
    vms = [client.create_from({"hostname": name, "memory": 128}) for name in ("runs", "rests")]
    client.done([*disks, *ifaces, *vms[0], *vms[1]])
    running, halted = (client.vm(one[-1]["vm_id"]) for one in vms)
    service.domain(halted["id"]).destroy()
    client.in_state(halted["id"], "halted")
    yield World(
        service, client, first, second, image, client.image("Tiny", second)["disk_id"], running, halted,
        disks[0]["disk_id"], ifaces[0]["iface_id"], disks[1]["disk_id"], ifaces[1]["iface_id"],
    )  # fmt: skip
    service.discard(client, running["id"], halted["id"])
    client.done([client.call("hosting.disk.delete", one["disk_id"]) for one in disks])
    client.done([client.call("hosting.iface.delete", one["iface_id"]) for one in ifaces])


@pytest.fixture(autouse=True)
def unchanged(world: World) -> Iterator[None]:
    """Nothing may come of any of it, not even an operation."""
    before: tuple[Inventory, int] = (world.service.inventory(), count_operations(world.service.state))
    yield
    assert (world.service.inventory(), count_operations(world.service.state)) == before


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl x"

# what is changed in a good spec, the fault, what its text names
SPECS: list[tuple[Struct, int, str]] = [
    ({"memory": "512"}, 501010, "memory"),
    ({"memory": 100}, 530237, "memory"),
    ({"memory": 0}, 530237, "memory"),
    ({"memory": -64}, 530237, "memory"),
    ({"memory": 64 * 1024 * 1024}, 530237, "memory"),
    ({"vm_max_memory": 1000}, 530237, "vm_max_memory"),
    ({"cores": 0}, 530237, "cores"),
    ({"cores": 100_000}, 530237, "cores"),
    ({"cores": True}, 501010, "cores"),
    ({"cores": 1.5}, 501010, "cores"),
    ({"hostname": "not a name"}, 530238, "hostname"),
    ({"hostname": "-bad"}, 530238, "hostname"),
    ({"hostname": "a" * 64}, 530238, "hostname"),
    ({"hostname": "under_score"}, 530238, "hostname"),
    ({"hostname": "x\n- reboot"}, 530238, "hostname"),
    ({"hostname": 3}, 501210, "hostname"),
    ({"ssh_key": "not a key"}, 501237, "ssh_key"),
    ({"ssh_key": [KEY, "ssh-rsa AAAA"]}, 501237, "ssh_key"),
    ({"ssh_key": {"a": 1}}, 501210, "ssh_key"),
    ({"keys": ["1"]}, 501010, "keys"),
    ({"keys": [2**30]}, 501742, "1073741824"),
    ({"login": "root"}, 501237, "login"),
    ({"login": "Bad:Name"}, 501237, "login"),
    ({"password": ""}, 501237, "password"),
    ({"password": "a\nb"}, 501237, "password"),
    ({"bandwidth": -1.0}, 501837, "bandwidth"),
    ({"bandwidth": "fast"}, 501810, "bandwidth"),
    ({"ip_version": 5}, 501037, "ip_version"),
    ({"ip_version": "five"}, 501237, "ip_version"),
    ({"run": 5}, 501210, "run"),
    ({"script": ["echo"]}, 501210, "script"),
    ({"farm": 1}, 501210, "farm"),
    ({"datacenter_id": 2**30}, 532742, "1073741824"),
    ({"datacenter_id": "1"}, 501010, "datacenter_id"),
    ({"iface_id": 2**30}, 531742, "1073741824"),
    ({"colour": "red"}, 501537, "colour"),
]


@pytest.mark.parametrize(("changes", "code", "named"), SPECS)
def test_a_bad_description(world: World, changes: Struct, code: int, named: str) -> None:
    fault = world.client.refusal(
        "hosting.vm.create_from", world.spec(**changes), {"datacenter_id": world.here}, world.image
    )
    assert fault.faultCode == code, fault.faultString
    assert named in fault.faultString
    # the dry run says the same, and does nothing more
    (objection,) = world.client.call(
        "hosting.vm.create_from", {**world.spec(**changes), "--dry-run": True},
        {"datacenter_id": world.here}, world.image,
    )  # fmt: skip
    assert objection["reason"] == fault.faultString


@pytest.mark.parametrize(
    ("disk", "code", "named"),
    [
        ({"size": 1500}, 530431, "size"),
        ({"size": 0}, 530431, "size"),
        ({"size": 1024 * 1024 * 1024}, 530431, "size"),
        ({"size": "1024"}, 501010, "size"),
        ({"name": ""}, 530436, "name"),
        ({"name": 7}, 501210, "name"),
        ({"type": "tape"}, 501237, "type"),
        ({"kernel": "0.99"}, 530401, "kernel"),
        ({"nom": "x"}, 501537, "nom"),
        ({"datacenter_id": 2**30}, 530451, "datacenter"),
    ],
)
def test_a_bad_disk(world: World, disk: Struct, code: int, named: str) -> None:
    spec = {"datacenter_id": world.here, **disk}
    fault = world.client.refusal("hosting.vm.create_from", world.spec(), spec, world.image)
    assert fault.faultCode == code, fault.faultString
    assert named in fault.faultString


def test_a_missing_key(world: World) -> None:
    for method, arguments in (
        ("hosting.vm.create_from", ({"memory": 128}, {}, world.image)),
        ("hosting.vm.create", ({"sys_disk_id": world.disk},)),
    ):
        fault = world.client.refusal(method, *arguments)
        assert (fault.faultCode, "datacenter_id" in fault.faultString) == (501537, True)
    fault = world.client.refusal("hosting.vm.create", {"datacenter_id": world.here})
    assert (fault.faultCode, "sys_disk_id" in fault.faultString) == (501537, True)


def test_the_wrong_number_or_kind_of_arguments(world: World) -> None:
    for arguments, code in (
        ((), 501637),
        ((world.spec(), {}), 501637),
        ((world.spec(), {}, world.image, 1), 501637),
        (("spec", {}, world.image), 501510),
        ((world.spec(), [], world.image), 501510),
        ((world.spec(), {}, "1"), 501010),
    ):
        assert world.client.refusal("hosting.vm.create_from", *arguments).faultCode == code
    for method in ("info", "start", "stop", "reboot", "delete"):
        assert world.client.refusal(f"hosting.vm.{method}", "1").faultCode == 501010


def test_start_with_bad_parameters(world: World) -> None:
    vm = world.halted["id"]
    for params, code, named in (
        ({"login": 1}, 501210, "login"),
        ({"ssh_key": "none"}, 501237, "ssh_key"),
        ({"keys": [2**30]}, 501742, "1073741824"),
        ({"memory": 512}, 501537, "memory"),
        ("params", 501510, ""),
    ):
        fault = world.client.refusal("hosting.vm.start", vm, params)
        assert (fault.faultCode, named in fault.faultString) == (code, True)


def test_unknown_ids(world: World) -> None:
    nobody = 2**31 - 1
    calls: list[tuple[int, str, tuple[Any, ...]]] = [
        *((530242, f"hosting.vm.{one}", (nobody,)) for one in ("info", "start", "stop", "reboot", "delete")),
        (530442, "hosting.vm.create_from", (world.spec(), {}, nobody)),
        (530442, "hosting.vm.create", (world.spec(sys_disk_id=nobody),)),
        (531742, "hosting.vm.create", (world.spec(sys_disk_id=world.disk, iface_id=nobody),)),
        (530442, "hosting.disk.info", (nobody,)),
        (530442, "hosting.disk.delete", (nobody,)),
        (530442, "hosting.disk.update", (nobody, {"name": "x"})),
        (530442, "hosting.disk.create_from", ({"name": "x"}, nobody)),
        (531742, "hosting.iface.info", (nobody,)),
        (531742, "hosting.iface.delete", (nobody,)),
        (531842, "hosting.ip.info", (nobody,)),
        (532542, "hosting.image.info", (nobody,)),
        (501742, "hosting.ssh.info", (nobody,)),
        (510242, "operation.info", (nobody,)),
        (510242, "operation.cancel", (nobody,)),
    ]
    for code, method, arguments in calls:
        fault = world.client.refusal(method, *arguments)
        assert (method, fault.faultCode) == (method, code), fault.faultString
        assert str(nobody) in fault.faultString


def test_what_is_somebody_elses_does_not_exist(world: World, stranger: Client, identity: Identity) -> None:
    key = world.client.call("hosting.ssh.create", {"name": "mine", "value": identity.public})
    here, vm = world.here, world.running
    operation = world.client.call("operation.list", {"vm_id": vm["id"]})[0]["id"]
    nobody = 2**31 - 1
    calls: list[tuple[str, int, Any]] = [
        *(
            (f"hosting.vm.{one}", vm["id"], lambda one: (one,))
            for one in ("info", "stop", "reboot", "delete")
        ),
        ("hosting.vm.start", world.halted["id"], lambda one: (one,)),
        ("hosting.disk.info", world.disk, lambda one: (one,)),
        ("hosting.disk.delete", world.disk, lambda one: (one,)),
        ("hosting.disk.update", world.disk, lambda one: (one, {"name": "taken"})),
        ("hosting.disk.create_from", world.disk, lambda one: ({"name": "copy"}, one)),
        ("hosting.vm.create_from", world.disk, lambda one: (world.spec(), {}, one)),
        ("hosting.vm.create", world.disk, lambda one: (world.spec(sys_disk_id=one),)),
        ("hosting.iface.info", world.iface, lambda one: (one,)),
        ("hosting.iface.delete", world.iface, lambda one: (one,)),
        ("hosting.iface.update", world.iface, lambda one: (one, {"bandwidth": 5.0})),
        ("hosting.vm.create_from", world.iface, lambda one: (world.spec(iface_id=one), {}, world.image)),
        ("hosting.vm.create_from", key["id"], lambda one: (world.spec(keys=[one]), {}, world.image)),
        ("hosting.ssh.info", key["id"], lambda one: (one,)),
        ("hosting.ssh.delete", key["id"], lambda one: (one,)),
        ("operation.info", operation, lambda one: (one,)),
        ("operation.cancel", operation, lambda one: (one,)),
        ("hosting.ip.info", vm["ifaces"][0]["ips"][0]["id"], lambda one: (one,)),
    ]
    for method, mine, arguments in calls:
        # told apart by the number alone, which the stranger gave
        theirs = stranger.refusal(method, *arguments(mine))
        unknown = stranger.refusal(method, *arguments(nobody))
        assert theirs.faultCode == unknown.faultCode
        assert theirs.faultString == unknown.faultString.replace(str(nobody), str(mine)), method
    for method in ("hosting.vm", "hosting.disk", "hosting.iface", "hosting.ip", "hosting.ssh", "operation"):
        assert stranger.call(f"{method}.list", {"id": [vm["id"], world.disk, world.iface, operation]}) == []
    assert [one["dc_code"] for one in stranger.call("hosting.datacenter.list", {"id": here})] == ["FR-SD5"]
    world.client.call("hosting.ssh.delete", key["id"])


def test_things_in_different_datacenters(world: World) -> None:
    calls: list[tuple[int, str, tuple[Any, ...]]] = [
        (530451, "hosting.vm.create_from", (world.spec(), {}, world.elsewhere)),
        (530451, "hosting.vm.create_from", (world.spec(), {"datacenter_id": world.there}, world.image)),
        (530451, "hosting.vm.create", (world.spec(sys_disk_id=world.far_disk),)),
        (531751, "hosting.vm.create", (world.spec(sys_disk_id=world.disk, iface_id=world.far_iface),)),
        (531751, "hosting.vm.create_from", (world.spec(iface_id=world.far_iface), {}, world.image)),
        (530451, "hosting.disk.create_from", ({"datacenter_id": world.there}, world.disk)),
    ]
    for code, method, arguments in calls:
        assert world.client.refusal(method, *arguments).faultCode == code


def test_a_vm_in_the_wrong_state(world: World) -> None:
    refusal = world.client.refusal
    assert refusal("hosting.vm.start", world.running["id"]).faultCode == 530268
    assert refusal("hosting.vm.delete", world.running["id"]).faultCode == 530268
    assert refusal("hosting.vm.stop", world.halted["id"]).faultCode == 530260
    assert refusal("hosting.vm.reboot", world.halted["id"]).faultCode == 530260


def test_things_that_are_in_use(world: World) -> None:
    disk, iface = world.halted["disks_id"][0], world.halted["ifaces_id"][0]
    calls: list[tuple[int, str, tuple[Any, ...]]] = [
        (530439, "hosting.vm.create", (world.spec(sys_disk_id=disk),)),
        (531739, "hosting.vm.create", (world.spec(sys_disk_id=world.disk, iface_id=iface),)),
        (531739, "hosting.vm.create_from", (world.spec(iface_id=iface), {}, world.image)),
        (530439, "hosting.disk.delete", (disk,)),
        (531739, "hosting.iface.delete", (iface,)),
    ]
    for code, method, arguments in calls:
        assert world.client.refusal(method, *arguments).faultCode == code


def test_an_images_disk_belongs_to_nobody(world: World) -> None:
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("hosting.disk.delete", (world.image,)),
        ("hosting.disk.update", (world.image, {"size": 4096})),
        ("hosting.vm.create", (world.spec(sys_disk_id=world.image),)),
    ]
    for method, arguments in calls:
        assert world.client.refusal(method, *arguments).faultCode == 530442


def test_sizes_of_disks(world: World) -> None:
    calls: list[tuple[int, str, tuple[Any, ...]]] = [
        (530431, "hosting.disk.create", ({"datacenter_id": world.here, "size": 1},)),
        (530431, "hosting.disk.update", (world.disk, {"size": 2500})),
        (530495, "hosting.disk.update", (world.disk, {"size": 1024})),
        (530431, "hosting.disk.create_from", ({"size": 1024}, world.disk)),
        (530431, "hosting.vm.create_from", (world.spec(), {"size": 1024}, world.disk)),
        (530444, "hosting.disk.update", (world.disk, {})),
    ]
    for code, method, arguments in calls:
        fault = world.client.refusal(method, *arguments)
        assert fault.faultCode == code, fault.faultString


def test_a_dry_run_of_what_would_work_does_nothing(world: World) -> None:
    dry = {"--dry-run": True}
    call = world.client.call
    assert call("hosting.vm.create_from", {**world.spec(), **dry}, {}, world.image) == []
    assert call("hosting.vm.create_from", world.spec(), dry, world.image) == []
    assert call("hosting.vm.create", {**world.spec(sys_disk_id=world.disk), **dry}) == []
    assert call("hosting.vm.start", world.halted["id"], {"password": "new", **dry}) == []
    assert call("hosting.disk.update", world.disk, {"name": "other", **dry}) == []
    assert call("hosting.disk.info", world.disk)["name"] != "other"


def test_a_bad_key_gets_nothing(world: World) -> None:
    for key, code in (("0" * 24, 510150), ("short", 501237), ("", 501237), ("A" * 24, 501237)):
        nobody = world.service.client(key)
        if not key:
            nobody.key = ""
        for method, arguments in (
            ("hosting.vm.create_from", (world.spec(), {}, world.image)),
            ("hosting.vm.delete", (world.running["id"],)),
        ):
            assert nobody.refusal(method, *arguments).faultCode == code
