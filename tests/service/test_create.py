"""``hosting.vm.create_from`` gives a real machine, with all that was asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from tests.conftest import Reach
from tests.service.client import Client, Struct, address, steady
from tests.service.guest import Guest, Identity, make_identity
from tests.service.process import Service
from tests.service.waiting import until

pytestmark = pytest.mark.guest

PASSWORD = "Käse & \"Brot\" $HOME 'x'"
SCRIPT = """#!/bin/sh
# écrit par le test: "quotes", 'apostrophes', $dollars, `ticks`, %s \\ and 日本
printf '[%s]' "$@" > /root/arguments.new
printf 'é"\\047日本' > /root/text
mv /root/arguments.new /root/arguments
"""
ARGUMENTS = "one 'two words' \"drei \\\" 'vier'\" fünf\\ und $HOME"


@dataclass(frozen=True)
class Made:
    """A VM that was made with every parameter there is."""

    spec: Struct
    operations: list[Struct]
    done: list[Struct]
    vm: Struct
    guest: Guest
    keys: list[Identity]


@pytest.fixture(scope="module")
def made(
    service: Service,
    client: Client,
    identity: Identity,
    reach: Reach,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("keys")
    stored, second = make_identity(folder, "stored"), make_identity(folder, "second")
    key = client.call("hosting.ssh.create", {"name": "stored", "value": stored.public})
    spec: Struct = {
        "hostname": "first.example.net",
        "cores": 2,
        "memory": 192,
        "vm_max_memory": 512,
        "bandwidth": 51200.0,
        "ip_version": "4",
        "login": "moritz",
        "password": PASSWORD,
        "ssh_key": [identity.public, second.public],
        "keys": [key["id"]],
        "farm": "alpha",
        "run": 'echo "run after $(cat /root/arguments)" > /root/run.new; mv /root/run.new /root/run',
        "script": SCRIPT,
        "script_args": ARGUMENTS,
        "ai_active": 0,
        "shares": 3,
    }
    operations = client.create_from(spec, {"name": "system", "size": 2048})
    done = client.done(operations)
    vm = client.vm(operations[-1]["vm_id"])
    yield Made(spec, operations, done, vm, reach(vm), [identity, second, stored])
    service.discard(client, vm["id"])
    client.call("hosting.ssh.delete", key["id"])


def test_three_operations_in_order_with_their_ids_at_once(made: Made) -> None:
    first = made.operations
    assert [one["type"] for one in first] == ["disk_create", "iface_create", "vm_create"]
    assert [one["step"] for one in first] == ["WAIT"] * 3
    assert first[0]["disk_id"] == made.vm["disks_id"][0]
    assert first[1]["iface_id"] == made.vm["ifaces_id"][0]
    assert first[1]["ip_id"] == made.vm["ifaces"][0]["ips_id"][0]
    assert first[2]["vm_id"] == made.vm["id"] == first[2]["params"]["vm_id"]
    assert [one["id"] for one in first] == sorted(one["id"] for one in first)
    assert all(one["last_error"] is None and one["eta"] == 0 for one in made.done)


def test_info_tells_what_was_asked_for(made: Made, client: Client, service: Service) -> None:
    vm = made.vm
    expected = {
        "hostname": "first.example.net",
        "state": "running",
        "cores": 2,
        "memory": 192,
        "vm_max_memory": 512,
        "farm": "alpha",
        "ai_active": 0,
        "console": 0,
        "console_url": f"localhost -p {service.console_port}",
        "description": None,
        "flex_shares": 0,
        "hvm_state": "running",
        "is_migrating": False,
        "entity_id": "LOCAL-GANDI",
        "triggers": [],
    }
    assert {key: vm[key] for key in expected} == expected
    (disk,) = vm["disks"]
    assert (disk["name"], disk["size"], disk["is_boot_disk"]) == ("system", 2048, True)
    assert (disk["state"], disk["label"], disk["vms_id"]) == ("created", "Tiny", [vm["id"]])
    assert disk["source"] == client.image()["disk_id"]
    (iface,) = vm["ifaces"]
    assert (iface["bandwidth"], iface["num"], iface["state"]) == (51200.0, 0, "used")
    assert (iface["type"], iface["vlan"], iface["vm_id"]) == ("public", None, vm["id"])
    assert [(ip["version"], ip["num"], ip["state"]) for ip in iface["ips"]] == [
        (4, 0, "created"),
        (6, 1, "created"),
    ]
    assert steady(client.call("vm.info", vm["id"])) == steady(client.vm(vm["id"]))


def test_lists_and_counts_know_it_by_each_name(made: Made, client: Client) -> None:
    opts = {
        "hostname": "first.example.net",
        "farm": ["alpha", "beta"],
        "~hostname": "FIRST",
        "state": "running",
    }
    for prefix in ("hosting.vm", "vm"):
        (listed,) = client.call(f"{prefix}.list", opts)
        assert listed["id"] == made.vm["id"]
        assert client.call(f"{prefix}.count", opts) == 1
        assert client.call(f"{prefix}.count", {**opts, "state": "halted"}) == 0


def test_the_guest_is_who_it_should_be(made: Made) -> None:
    assert made.guest.run("id -un; hostname") == "root\nfirst.example.net"


def test_the_guest_has_the_cores_and_the_memory(made: Made) -> None:
    assert made.guest.run("grep -c ^processor /proc/cpuinfo") == "2"
    # the balloon takes the rest of vm_max_memory away; what the kernel keeps for itself is missing as well
    total = made.guest.appears("/tmp/memory") if made.guest.attempt(_DEFLATED).returncode == 0 else "0"
    assert 100 * 1024 < int(total) < 192 * 1024


_DEFLATED = """
i=0
while [ $i -lt 100 ]; do
    total=$(awk '/^MemTotal/ {print $2}' /proc/meminfo)
    [ $total -lt 196608 ] && { echo $total > /tmp/memory; exit 0; }
    i=$((i + 1)); sleep 0.1
done
exit 1
"""


def test_the_disk_has_the_size(made: Made) -> None:
    assert made.guest.run("cat /sys/block/vda/size") == str(2048 * 2048)
    # and its file system with it
    assert int(made.guest.run("df -m / | awk 'END {print $2}'")) > 1700


def test_the_script_gets_its_arguments_as_a_shell_would_give_them(made: Made) -> None:
    assert made.guest.appears("/root/arguments") == "[one][two words][drei \" 'vier'][fünf und][$HOME]"
    assert made.guest.run("cat /root/text") == "é\"'日本"


def test_run_runs_after_the_script(made: Made) -> None:
    said = made.guest.appears("/root/run")
    assert said == "run after [one][two words][drei \" 'vier'][fünf und][$HOME]\n"


def test_every_key_opens_both_accounts(made: Made) -> None:
    for key in made.keys:
        for user in ("root", "moritz"):
            assert Guest(made.guest.address, key, user).run("id -un") == user


def test_the_password_opens_both_accounts(made: Made) -> None:
    for user in ("root", "moritz"):
        assert made.guest.with_password(PASSWORD, user) == user


def test_a_wrong_password_opens_nothing(made: Made) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        made.guest.with_password(PASSWORD.lower(), "moritz")


def test_both_addresses_are_those_of_the_api_and_answer(made: Made, reach: Reach) -> None:
    held = made.guest.run("ip -o addr show dev eth0 scope global")
    assert f"inet {address(made.vm, 4)}/" in held
    assert f"inet6 {address(made.vm, 6)}/" in held
    assert reach(made.vm, version=6).run("hostname") == "first.example.net"


def test_an_interface_with_ipv6_alone(
    service: Service, client: Client, identity: Identity, reach: Reach
) -> None:
    vm = client.made({"ssh_key": identity.public, "ip_version": 6})
    assert [ip["version"] for ip in vm["ifaces"][0]["ips"]] == [6]
    assert vm["hostname"].startswith("vm")
    assert reach(vm, version=6).run("hostname") == vm["hostname"]
    service.discard(client, vm["id"])


def test_create_on_a_disk_and_an_interface_that_exist(
    service: Service, client: Client, identity: Identity, reach: Reach
) -> None:
    before = service.inventory()
    image = client.image()
    here = image["datacenter_id"]
    disk_op = client.call(
        "hosting.disk.create_from", {"datacenter_id": here, "name": "mine"}, image["disk_id"]
    )
    iface_op = client.call("hosting.iface.create", {"datacenter_id": here, "ip_version": 4})
    client.done([disk_op, iface_op])
    addresses = client.call("hosting.iface.info", iface_op["iface_id"])["ips"]
    spec = {
        "datacenter_id": here, "sys_disk_id": disk_op["disk_id"], "iface_id": iface_op["iface_id"],
        "hostname": "both", "memory": 256, "ssh_key": identity.public,
    }  # fmt: skip
    operations = client.call("hosting.vm.create", spec)
    assert [one["type"] for one in operations] == ["vm_create"]
    client.done(operations)
    vm = client.vm(operations[0]["vm_id"])
    assert (vm["disks_id"], vm["ifaces_id"]) == ([disk_op["disk_id"]], [iface_op["iface_id"]])
    assert [ip["ip"] for ip in vm["ifaces"][0]["ips"]] == [ip["ip"] for ip in addresses]
    assert reach(vm).run("hostname") == "both"
    service.discard(client, vm["id"])
    service.settled(before)


def test_create_makes_the_interface_that_was_not_named(
    service: Service, client: Client, identity: Identity, reach: Reach, tmp_path: Path
) -> None:
    before = service.inventory()
    stored = make_identity(tmp_path, "other")
    key = client.call("hosting.ssh.create", {"name": "other", "value": stored.public})
    image = client.image()
    here = image["datacenter_id"]
    disk_spec = {"datacenter_id": here, "size": 1024, "kernel": "grub", "cmdline": "ro", "type": "data"}
    disk_op = client.call("disk.create_from", disk_spec, image["disk_id"])
    # without waiting: the creation waits for its disk
    spec = {
        "datacenter_id": here, "sys_disk_id": disk_op["disk_id"], "hostname": "other", "farm": "beta",
        "cores": 2, "memory": 192, "vm_max_memory": 256, "bandwidth": 51200.0, "ip_version": "4",
        "ssh_key": [identity.public], "keys": [key["id"]], "login": "max", "password": PASSWORD,
        "run": "echo run >> /root/done", "script": "#!/bin/sh\necho script $1 >> /root/done\n",
        "script_args": "x", "ai_active": 0, "shares": 1,
    }  # fmt: skip
    operations = client.call("vm.create", spec)
    assert [one["type"] for one in operations] == ["iface_create", "vm_create"]
    client.done([disk_op, *operations])
    vm = client.vm(operations[-1]["vm_id"])
    assert vm["ifaces_id"] == [operations[0]["iface_id"]]
    assert (vm["farm"], vm["vm_max_memory"], vm["ifaces"][0]["bandwidth"]) == ("beta", 256, 51200.0)
    (disk,) = vm["disks"]
    assert (disk["kernel_version"], disk["kernel_cmdline"]) == ("grub", {"ro": True})
    guest = reach(vm)
    assert guest.run("hostname; grep -c ^processor /proc/cpuinfo") == "other\n2"
    assert Guest(guest.address, stored, "max").run("id -un") == "max"
    assert guest.with_password(PASSWORD, "max") == "max"
    until(lambda: guest.run("cat /root/done || true") == "script x\nrun", 30, "script and run have run")
    service.discard(client, vm["id"])
    client.call("hosting.ssh.delete", key["id"])
    service.settled(before)


def test_create_from_ones_own_disk(
    service: Service, client: Client, identity: Identity, reach: Reach
) -> None:
    before = service.inventory()
    original = client.made({"hostname": "original", "ssh_key": identity.public})
    guest = reach(original)
    guest.run("seq 1 200000 > /root/data; sha256sum /root/data > /root/sum; sync; echo late > /root/unsynced")
    disk = original["disks_id"][0]

    # of a running VM, while it writes
    guest.run(
        "(for i in $(seq 500); do seq 1 1000 >> /root/growing; done) </dev/null >/dev/null 2>&1 & echo begun"
    )
    snapshot = client.call("hosting.disk.create_from", {"name": "snap", "type": "snapshot"}, disk)
    live = client.create_from({"hostname": "live", "ssh_key": identity.public}, source=disk)
    client.done([snapshot, *live])
    assert client.call("hosting.disk.info", snapshot["disk_id"])["type"] == "snapshot"

    # of a stopped VM
    client.done(client.call("hosting.vm.stop", original["id"]))
    cold = client.create_from({"hostname": "cold", "ssh_key": identity.public}, source=disk)
    # of a snapshot
    past = client.create_from({"hostname": "past", "ssh_key": identity.public}, source=snapshot["disk_id"])
    client.done([*cold, *past])

    for operations in (live, cold, past):
        vm = client.vm(operations[-1]["vm_id"])
        copy = reach(vm)
        assert copy.run("sha256sum -c /root/sum && hostname") == f"/root/data: OK\n{vm['hostname']}"
        assert copy.run("dmesg | grep -ci 'ext4-fs error' || true") == "0"
    assert reach(client.vm(cold[-1]["vm_id"])).run("cat /root/unsynced") == "late"

    service.discard(client, original["id"], *(one[-1]["vm_id"] for one in (live, cold, past)))
    client.done(client.call("hosting.disk.delete", snapshot["disk_id"]))
    service.settled(before)
