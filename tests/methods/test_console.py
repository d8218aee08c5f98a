"""Who may look at which console."""

from typing import Any

import asyncssh
import pytest

from api.methods.console import Viewed, is_open, with_api_key, with_key
from api.store.models import Iface, Ip, SshKey, Vm
from tests.methods.world import ALICE, BOB, REVOKED, UNKNOWN, World

V4, V6 = "192.0.2.2", "2001:db8::5054:ff:fe00:1"


class Key:
    """A key pair."""

    def __init__(self) -> None:
        pair = asyncssh.generate_private_key("ssh-ed25519")
        self.line = pair.export_public_key().decode().strip()
        self.blob = pair.public_data


@pytest.fixture
def kept() -> Key:
    """A key of Alice's in hosting.ssh."""
    return Key()


@pytest.fixture
def given() -> Key:
    """A key that Alice's machine was given."""
    return Key()


@pytest.fixture
def vm(world: World, kept: Key, given: Key) -> Vm:
    """Alice's machine, its console open."""
    world.call("hosting.ssh.create", {"name": "kept", "value": kept.line})
    return machine(world, (V4, V6), seed={"ssh_keys": [given.line]})


def machine(world: World, addresses: tuple[str, ...], key: str = ALICE, **values: Any) -> Vm:
    """A machine with these public addresses, its console open unless `values` say otherwise."""
    made = world.vm(key=key, **({"console": True} | values))
    world.iface(key, addresses, state="used", vm_id=made.id, num=0)
    return made


def seen(vm: Vm) -> Viewed:
    """What one who is let in sees."""
    return Viewed(vm.id, vm.uuid, vm.hostname, vm.datacenter_id)


@pytest.mark.parametrize("address", [V4, V6, V6.upper(), "2001:db8:0:0:5054:ff:fe00:0001"])
def test_the_owner_is_let_in_at_every_address(
    world: World, vm: Vm, kept: Key, given: Key, address: str
) -> None:
    assert with_key(world.services, address, kept.blob) == seen(vm)
    assert with_key(world.services, address, given.blob) == seen(vm)
    assert with_api_key(world.services, address, ALICE) == seen(vm)


@pytest.mark.parametrize("address", ["", "192.0.2.3", "web", "192.0.2.2 ", "fe80::1%lo", "' OR 1=1 --", "0"])
def test_nobody_is_at_other_addresses(world: World, vm: Vm, kept: Key, given: Key, address: str) -> None:
    assert seen(vm) == with_key(world.services, V4, kept.blob)
    assert with_key(world.services, address, kept.blob) is None
    assert with_key(world.services, address, given.blob) is None
    assert with_api_key(world.services, address, ALICE) is None


@pytest.mark.parametrize("key", [BOB, REVOKED, UNKNOWN, "", "short", ALICE.upper(), "\0" * 24])
def test_api_keys_of_nobody_and_of_others(world: World, vm: Vm, key: str) -> None:
    assert with_api_key(world.services, V4, ALICE) == seen(vm)
    assert with_api_key(world.services, V4, key) is None


def test_ssh_keys_of_nobody_and_of_others(world: World, vm: Vm) -> None:
    bobs, other = Key(), Key()
    world.call("hosting.ssh.create", {"name": "bob's", "value": bobs.line}, key=BOB)
    theirs = machine(world, ("192.0.2.9",), BOB)
    assert with_key(world.services, "192.0.2.9", bobs.blob) == seen(theirs)
    for blob in (bobs.blob, other.blob, b""):
        assert with_key(world.services, V4, blob) is None
    assert vm.id != theirs.id


def test_a_deleted_key_is_refused_from_then_on(world: World, vm: Vm, kept: Key, given: Key) -> None:
    assert with_key(world.services, V4, kept.blob) == seen(vm)
    (found,) = world.call("hosting.ssh.list")
    world.call("hosting.ssh.delete", found["id"])
    assert with_key(world.services, V4, kept.blob) is None
    assert with_key(world.services, V4, given.blob) == seen(vm)


@pytest.mark.parametrize("change", [{"console": False}, {"state": "deleted"}])
def test_a_closed_console_and_a_deleted_machine(
    world: World, vm: Vm, kept: Key, change: dict[str, Any]
) -> None:
    assert is_open(world.services, vm.id)
    world.change(vm, **change)
    assert not is_open(world.services, vm.id)
    assert with_key(world.services, V4, kept.blob) is None
    assert with_api_key(world.services, V4, ALICE) is None


def test_an_interface_that_was_detached_leads_nowhere(world: World, vm: Vm, kept: Key) -> None:
    (iface,) = world.get(Vm, vm.id) and world.call("hosting.vm.info", vm.id)["ifaces_id"]
    world.change(world.get(Iface, iface), vm_id=None)
    assert with_key(world.services, V4, kept.blob) is None


def test_private_addresses_lead_nowhere(world: World, kept: Key) -> None:
    world.call("hosting.ssh.create", {"name": "kept", "value": kept.line})
    vlan = world.vlan("private")
    vm = machine(world, ("10.7.13.5",))
    with world.store.writing() as session:
        session.query(Ip).update({"vlan_id": vlan.id})
    assert vm.console
    assert with_key(world.services, "10.7.13.5", kept.blob) is None


def test_the_same_address_in_two_datacenters_belongs_to_whoever_has_the_key(world: World) -> None:
    keys = {ALICE: Key(), BOB: Key()}
    made = {}
    for datacenter, (owner, key) in enumerate(keys.items(), 1):
        made[owner] = world.vm(
            key=owner, console=True, datacenter_id=datacenter, seed={"ssh_keys": [key.line]}
        )
        iface = world.iface(owner, state="used", vm_id=made[owner].id, num=0, datacenter_id=datacenter)
        world.add(
            Ip(account_id=made[owner].account_id, datacenter_id=datacenter, iface_id=iface.id, ip=V4,
               version=4, num=0, state="created")
        )  # fmt: skip
    for owner, key in keys.items():
        assert with_key(world.services, V4, key.blob) == seen(made[owner])
        assert with_api_key(world.services, V4, owner) == seen(made[owner])


def test_a_line_that_is_no_key_opens_nothing(world: World, vm: Vm, kept: Key) -> None:
    world.change(vm, seed={"ssh_keys": ["ssh-ed25519 broken", ""]})
    world.add(SshKey(account_id=vm.account_id, name="broken", value="broken", fingerprint=""))
    assert with_key(world.services, V4, b"") is None
    assert with_key(world.services, V4, kept.blob) == seen(vm)
