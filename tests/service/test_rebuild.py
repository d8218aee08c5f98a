"""Differences found and mended, and the records made anew from what libvirt has, with two machines."""

import contextlib
import json
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

import libvirt
import pytest
from pyroute2 import IPRoute

from api.operations import notes
from api.store.database import Store
from api.store.models import Claim, Disk, Job
from hypervisor import network
from hypervisor.domain import power
from hypervisor.domain.spec import DiskSpec, DomainSpec
from hypervisor.domain.xml import render
from hypervisor.network import Mode, NetworkSpec, Reservation, reservations
from hypervisor.storage import pool, volume
from tests.conftest import Reach
from tests.devices.kit import World, targets
from tests.service.client import Client, Struct, steady
from tests.service.guest import Guest, Identity
from tests.service.host import Host
from tests.service.process import Service
from tests.service.waiting import until

pytestmark = [pytest.mark.guest, pytest.mark.long]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKcZ1cPqlqkFfYOLbD0KJrGLSvQ4yo0Ilw1VWx1pu5D5"


@dataclass
class Scene:
    """A service with a running machine that has everything, a halted one, and what is on none."""

    world: World
    stranger: Client
    running: int
    halted: int
    disks: dict[str, int] = field(default_factory=dict)
    ifaces: dict[str, int] = field(default_factory=dict)
    vlans: list[int] = field(default_factory=list)

    @property
    def service(self) -> Service:
        return self.world.service

    @property
    def libvirt(self) -> libvirt.virConnect:
        return self.service.host.connection

    @property
    def pool(self) -> str:
        return self.service.datacenters[0].pool

    @property
    def folder(self) -> Path:
        return self.service.pools / self.pool

    @property
    def guest(self) -> Guest:
        return self.world.reach(self.world.client.vm(self.running))

    def reconcile(self, *options: str) -> tuple[int, dict[str, Any]]:
        """What ``reconcile`` finds: its status and its answer."""
        done = self.service.cli("reconcile", "--json", *options)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def volume_of(self, disk_id: int) -> Path:
        (found,) = self.folder.glob(f"disk-{disk_id}-*")
        return found


@pytest.fixture(scope="module")
def scene(
    tmp_path_factory: pytest.TempPathFactory, host: Host, identity: Identity, reach: Reach
) -> Iterator[Scene]:
    service = Service(tmp_path_factory.mktemp("rebuild"), host)
    try:
        service.start()
        world = World(service, service.client(), identity, reach)
        yield set_up(world, service.another_account("SECOND-GANDI"))
    finally:
        service.dispose()


def set_up(world: World, stranger: Client) -> Scene:
    client = world.client
    key = client.call("hosting.ssh.create", {"name": "laptop", "value": f"{KEY} me@home"})
    machine = {"hostname": "everything.example.net", "keys": [key["id"]], "run": "echo 'a b' > /root/ran"}
    one, other = world.vms(machine, {"hostname": "halted", "memory": 320})
    world.power_off(other["id"])
    scene = Scene(world, stranger, one["id"], other["id"])
    # nothing in the metadata may close an element, or what holds it
    data, free, gone = world.disks(3, name="data <&\"']]> é")
    client.done(client.call("hosting.disk.update", data, {"size": 2048}))
    client.done(client.call("hosting.vm.disk_attach", scene.running, data, {"access": "read"}))
    client.done(client.call("hosting.disk.update", data, {"name": 'renamed "</x>'}))
    scene.disks = {
        "system": one["disks_id"][0],
        "data": data,
        "free": free,
        "gone": gone,
        "copy": world.copy(one["disks_id"][0], name="copied"),
        "kept": world.copy(data, type="snapshot", name="as it was"),
    }
    client.done(client.call("hosting.disk.delete", gone))
    vlan = made_vlan(client, {"name": "office <é>", "datacenter_id": world.here, "gateway": "192.168.0.1"})
    other_vlan = made_vlan(stranger, {"name": "theirs", "datacenter_id": world.here})
    private, public = world.ifaces({"vlan": vlan, "ip": "192.168.0.77"}, {"ip_version": 6})
    client.done(client.call("hosting.vm.iface_attach", scene.running, private["id"]))
    client.done(client.call("hosting.iface.update", private["id"], {"bandwidth": 2048.0}))
    client.done(client.call("hosting.ip.update", one["ifaces"][0]["ips_id"][0], {"reverse": "a.example.net"}))
    stranger.done(stranger.call("hosting.disk.create", {"datacenter_id": world.here, "size": 1024}))
    scene.ifaces = {"public": one["ifaces_id"][0], "private": private["id"], "free": public["id"]}
    scene.vlans = [vlan, other_vlan]
    until(lambda: scene.guest.attempt("test -e /root/ran").returncode == 0, 60, "the guest has booted")
    world.service.inventory()
    # what the domains keep follows in a moment
    until(lambda: scene.reconcile()[0] == 0, 20, "nothing differs in what was made")
    return scene


def made_vlan(client: Client, spec: Struct) -> int:
    (done,) = client.done(client.call("hosting.vlan.create", spec))
    return int(done["params"]["vlan_id"])


def test_nothing_differs_in_what_was_made(scene: Scene) -> None:
    status, found = scene.reconcile()
    assert found == {"differences": [], "left_out": []}
    assert status == 0


def test_fix_wants_the_service_stopped(scene: Scene) -> None:
    refused = scene.service.cli("reconcile", "--fix")
    assert refused.returncode == 1
    assert "stop it first" in refused.stderr


@contextlib.contextmanager
def foreign(scene: Scene) -> Iterator[None]:
    """What others have on the same host, in all the places where the service has something."""
    spec = DomainSpec(str(uuid.uuid4()), "foreign", 1, 1, 64, 64, accelerated=False)
    scene.libvirt.defineXML(unmarked(spec))
    made = volume.create_empty(scene.libvirt, scene.pool, "mine.qcow2", 1024)
    log = scene.service.state / "console" / "notes.txt"
    log.write_text("mine")
    other = NetworkSpec("foreign-vlan", "fvl0", IPv4Interface("10.99.0.0/24"), mode=Mode.PRIVATE)
    network.ensure(scene.libvirt, other)
    tap(scene, "mine0")
    try:
        yield
        assert scene.libvirt.lookupByName("foreign")
        assert made.exists()
        assert log.exists()
        assert scene.libvirt.networkLookupByName("foreign-vlan").isActive()
        with IPRoute() as kernel:
            assert kernel.link_lookup(ifname="mine0")
    finally:
        scene.libvirt.lookupByName("foreign").undefine()
        volume.delete(scene.libvirt, scene.pool, "mine.qcow2")
        log.unlink()
        network.remove(scene.libvirt, "foreign-vlan")
        with IPRoute() as kernel:
            kernel.link("del", index=kernel.link_lookup(ifname="mine0")[0])


def unmarked(spec: DomainSpec) -> str:
    before, _, rest = render(spec).partition("<metadata>")
    return before + rest.partition("</metadata>")[2]


def tap(scene: Scene, name: str) -> None:
    """A tap in the bridge of the first datacenter."""
    with IPRoute() as kernel:
        (bridge,) = kernel.link_lookup(ifname=scene.service.datacenters[0].bridge)
        kernel.link("add", ifname=name, kind="tuntap", mode="tap")
        kernel.link("set", index=kernel.link_lookup(ifname=name)[0], master=bridge)


def test_each_difference_is_found_and_mended(scene: Scene) -> None:
    client, data = scene.world.client, scene.disks["data"]
    uuids = {one: scene.service.domain(one).UUIDString() for one in (scene.running, scene.halted)}
    before = {one: steady(client.vm(one)) for one in uuids}
    with foreign(scene):
        expected = disturb(scene, uuids)
        status, found = scene.reconcile()
        assert status == 1
        texts = {one["text"]: one["fix"] for one in found["differences"]}
        for text, fixed in expected.items():
            matching = [one for one in texts if text in one]
            assert len(matching) == 1, (text, texts)
            assert bool(texts[matching[0]]) is fixed, matching
        assert len(texts) == len(expected), texts

        assert scene.service.terminate() == 0
        with claimed(scene.service.state, f"vm:{scene.halted}"):
            _, held = scene.reconcile()
            assert not any(one["about"] == f"vm:{scene.halted}" for one in held["differences"])
            assert len(held["differences"]) < len(expected)
        status, found = scene.reconcile("--fix")
        assert not [one for one in found["differences"] if one["fix"] and not one["fixed"]], found
        status, found = scene.reconcile()
        left = {one["text"] for one in found["differences"]}
        assert status == 1
        assert left == {one for one in texts if not texts[one]}
        assert scene.service.domain(scene.halted).UUIDString() == uuids[scene.halted]
        settle(scene)
        status, found = scene.reconcile()
        assert (status, found["differences"]) == (0, [])
    scene.service.start()
    assert f"ua-disk-{data}" in targets(scene.service, scene.running, live=True)
    assert {one: steady(client.vm(one)) for one in uuids} == before
    assert scene.guest.run("cat /root/ran") == "a b"


def disturb(scene: Scene, uuids: dict[int, str]) -> dict[str, bool]:
    """Make every difference by hand; a part of the sentence about each, and whether it can be mended."""
    connection, service = scene.libvirt, scene.service
    free, data, kept = (scene.disks[one] for one in ("free", "data", "kept"))
    running, halted = service.domain(scene.running), service.domain(scene.halted)
    halted.undefine()
    running.detachDeviceAlias(f"ua-disk-{data}", libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    running.detachDeviceAlias(f"ua-disk-{data}", libvirt.VIR_DOMAIN_AFFECT_LIVE)
    until(
        lambda: f"ua-disk-{data}" not in targets(service, scene.running, live=True), 30, "the guest lets go"
    )
    power.note(connection, uuids[scene.running], "{}")
    (seed,) = scene.folder.glob(f"seed-{scene.running}-*")
    seed.unlink()
    # one that runs has it open, and one that is halted is not started: it comes back below
    scene.volume_of(free).rename(scene.folder.parent / "put-away")
    volume.create_empty(connection, scene.pool, "disk-999-1.0badcafe.qcow2", 1024)
    volume.create_empty(connection, scene.pool, f"disk-{kept}-1.0badcafe.qcow2", 1024)
    volume.upload(connection, scene.pool, "seed-999-0badcafe.iso", b"seed" * 512, "raw")
    (described,) = scene.folder.glob("image-*.json")
    described.unlink()
    volume.upload(connection, scene.pool, "image-0badcafe.json", b"{}", "raw")
    volume.create_empty(connection, scene.pool, "image-0badbeef.qcow2", 1024)

    here = service.datacenters[0].network
    public = scene.world.client.call("hosting.iface.info", scene.ifaces["free"])["ips"][0]["ip"]
    (mac,) = (one.mac for one in reservations(connection, here) if str(one.ipv6) == public)
    network.release(connection, here, mac)
    stray = Reservation("52:54:00:99:99:99", IPv4Address(service.datacenters[0].ipv4.split("/")[0]) + 200)
    network.assign(connection, here, stray)
    theirs = next(one for one in connection.listAllNetworks() if is_vlan(one, scene.vlans[1]))
    theirs.destroy()
    orphan = NetworkSpec(
        f"hypervisor-vlan-{secrets.token_hex(4)}", "hvl-0badcafe", IPv4Interface("10.98.0.0/24"),
        mode=Mode.PRIVATE, labels={"within": here, "record": '{"id": 999}'},
    )  # fmt: skip
    network.ensure(connection, orphan)
    tap(scene, "vnet9999")
    gone = uuid.uuid4()
    (service.state / "console" / f"{gone}.log").write_text("gone")
    (service.state / "console" / f"{gone}.log.0").write_text("gone")
    empty, full = (
        orphan_domain(scene, 997, "none.qcow2"),
        orphan_domain(scene, 998, "disk-998-1.0badcafe.qcow2"),
    )
    volume.create_empty(connection, scene.pool, "disk-998-1.0badcafe.qcow2", 1024)
    return {
        f"vm#{scene.halted} (halted) has no domain": True,
        f"the definition of vm#{scene.running} lacks disk#{data}": True,
        f"the running vm#{scene.running} lacks disk#{data}": True,
        f"what the domain of vm#{scene.running} keeps of the records is out of date": True,
        f"the seed of vm#{scene.running} is missing": True,
        f"of disk#{free} is missing": False,
        "disk-999-1.0badcafe.qcow2 is of no disk": False,
        "disk-998-1.0badcafe.qcow2 is of no disk": False,
        f"is named for disk#{kept}": False,
        "seed-999-0badcafe.iso is the seed of no VM": True,
        "the image 'Tiny' of FR-SD5 is not described": True,
        "image-0badcafe.json describes an image that is not there": True,
        "image-0badbeef.qcow2 is of no image": False,
        f"does not give iface#{scene.ifaces['free']} its addresses": True,
        "for 52:54:00:99:99:99, which is of no interface": True,
        f"of vlan#{scene.vlans[1]} is stopped": True,
        f"the network {orphan.name} is of no vlan": True,
        "the tap vnet9999": True,
        f"{gone}.log is of no VM": True,
        f"the domain {empty} ": True,
        f"the domain {full} ": False,
    }


def is_vlan(one: libvirt.virNetwork, vlan_id: int) -> bool:
    return f"&quot;id&quot;: {vlan_id}," in one.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)


def orphan_domain(scene: Scene, number: int, disk: str) -> str:
    """A domain of the service's that no record knows."""
    spec = DomainSpec(
        str(uuid.uuid4()), f"vm-{scene.service.first_vm + number}", 1, 1, 64, 64, accelerated=False,
        disks=(
            DiskSpec(f"ua-disk-{number}", scene.folder / disk, "vda"),
            DiskSpec("ua-seed", scene.folder / f"seed-{number}-00000000.iso", "vdz", "raw", readonly=True),
        ),
        labels={"vm": str(number), "account": "LOCAL-GANDI", "datacenter": "FR-SD5"},
    )  # fmt: skip
    power.define(scene.libvirt, spec)
    return spec.name


def settle(scene: Scene) -> None:
    """Do by hand what --fix leaves to a person."""
    (scene.folder.parent / "put-away").rename(volume_named(scene, scene.disks["free"]))
    strays = [f"disk-{scene.disks['kept']}-1.0badcafe.qcow2", "image-0badbeef.qcow2"]
    for name in ("disk-999-1.0badcafe.qcow2", "disk-998-1.0badcafe.qcow2", *strays):
        volume.delete(scene.libvirt, scene.pool, name)
    scene.libvirt.lookupByName(f"vm-{scene.service.first_vm + 998}").undefine()


def volume_named(scene: Scene, disk_id: int) -> Path:
    store = Store(f"sqlite:///{scene.service.state / 'store.db'}")
    try:
        with store.reading() as session:
            return scene.folder / session.get_one(Disk, disk_id).volume
    finally:
        store.close()


@contextlib.contextmanager
def claimed(state: Path, resource: str) -> Iterator[None]:
    """An unfinished job that has the object, while the service is stopped."""
    store = Store(f"sqlite:///{state / 'store.db'}")
    try:
        with store.writing() as session:
            job = Job(workflow="none", arguments={}, claims=[Claim(resource=resource)])
            session.add(job)
            session.flush()
            number = job.id
        yield
        with store.writing() as session:
            session.delete(session.get_one(Job, number))
    finally:
        store.close()


# what is not known of a disk and of an interface that are on no machine, and what changes by itself
_FREE_DISK = ("name", "date_created", "snapshot_profile", "snapshot_profile_id", "kernel_cmdline")
_FREE_IFACE = ("bandwidth", "date_created", "ips", "ips_id")
_ALWAYS = ("date_updated",)


def answers(client: Client, scene: Scene) -> dict[str, Any]:
    """What the API says of everything."""
    free = {scene.disks["free"], scene.disks["copy"], scene.ifaces["free"]}

    def known(kind: str, shown: Struct, *lost: str) -> Struct:
        left_out = {*_ALWAYS, *(lost if shown["id"] in free and shown.get("vm_id") is None else ())}
        return {key: bare(value) for key, value in shown.items() if key not in left_out} | {"kind": kind}

    disks = [client.call("hosting.disk.info", one["id"]) for one in client.call("hosting.disk.list")]
    ifaces = [client.call("hosting.iface.info", one["id"]) for one in client.call("hosting.iface.list")]
    return {
        "vms": [bare(steady(client.vm(one["id"]))) for one in client.call("hosting.vm.list")],
        "disks": [known("disk", one, *_FREE_DISK) for one in disks],
        "ifaces": [known("iface", one, *_FREE_IFACE) for one in ifaces],
        "ips": [
            bare(one) for one in client.call("hosting.ip.list") if one["iface_id"] != scene.ifaces["free"]
        ],
        "free ips": [
            one["ip"] for one in client.call("hosting.ip.list") if one["iface_id"] == scene.ifaces["free"]
        ],
        "images": [bare(one) for one in client.call("hosting.image.list")],
        "vlans": [bare(client.call("hosting.vlan.info", one)) for one in vlan_ids(client)],
        "keys": client.call("hosting.ssh.list"),
        "datacenters": client.call("hosting.datacenter.list"),
    }


def vlan_ids(client: Client) -> list[int]:
    return [one["id"] for one in client.call("hosting.vlan.list")]


def bare(value: Any) -> Any:
    """The value without the dates of its last changes, at any depth."""
    if isinstance(value, list):
        return [bare(one) for one in value]
    if isinstance(value, dict):
        return {key: bare(one) for key, one in value.items() if key not in _ALWAYS}
    return value


def test_what_domains_keep_is_up_to_date_when_the_service_ends(scene: Scene) -> None:
    client, service = scene.world.client, scene.service
    client.done(client.call("hosting.vm.update", scene.halted, {"password": "Correct-Horse-1"}))
    client.done(client.call("hosting.disk.update", scene.disks["data"], {"name": "the last"}))
    assert service.terminate() == 0
    kept = notes.read(power.notes(scene.libvirt, service.domain(scene.running).UUIDString()))
    assert kept is not None
    assert "the last" in [disk["name"] for disk in kept["disks"]]
    xml = service.domain(scene.halted).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    for secret in ("$6$", "Correct-Horse", client.key):
        assert secret not in xml
    service.start()


def test_the_records_are_made_anew(scene: Scene) -> None:
    service, old = scene.service, scene.world.client
    refused = service.cli("rebuild")
    assert (refused.returncode, "stop it first" in refused.stderr) == (1, True)
    before, theirs = answers(old, scene), answers(scene.stranger, scene)
    highest = max(old.call("operation.list", {"sort_by": "id DESC"})[0]["id"], 1)
    service.inventory()
    assert service.terminate() == 0
    refused = service.cli("rebuild")
    assert refused.returncode == 1
    assert "store.db has records" in refused.stderr
    old_file = (service.state / "apikey").read_text()
    for file in service.state.glob("store.db*"):
        file.unlink()

    done = service.cli("rebuild")
    assert done.returncode == 0, done.stderr
    assert "restored: 2 accounts, 2 virtual machines, " in done.stdout, done.stdout
    assert f"what the guest of vm#{scene.halted} was to be told at its next start" in done.stdout
    _, found = scene.reconcile()
    # the seed that was to come is not, which the next start of the service notes
    assert [one["about"] for one in found["differences"]] == [f"vm:{scene.halted}"], (found, done.stdout)
    assert "out of date" in found["differences"][0]["text"]
    service.start()
    new = service.client()
    assert (service.state / "apikey").read_text() != old_file
    assert answers(new, scene) == before
    others = next(service.state.glob("apikey-*"))
    assert others.stat().st_mode & 0o777 == 0o600
    stranger = service.client(others.read_text().strip())
    again = answers(stranger, scene)
    for one in (*theirs["disks"], *again["disks"]):
        for key in _FREE_DISK:
            one.pop(key)
    assert again == theirs
    assert "API key" in old.refusal("hosting.vm.list").faultString

    world = scene.world = World(service, new, scene.world.identity, scene.world.reach)
    assert scene.guest.run("cat /root/ran") == "a b"
    (made,) = world.disks(1)
    assert made > max(scene.disks.values())
    assert new.call("operation.list", {"sort_by": "id DESC"})[0]["id"] > highest
    new.done(new.call("hosting.vm.disk_detach", scene.running, scene.disks["data"]))
    new.done(new.call("hosting.vm.disk_attach", scene.running, made))
    world.do("stop", scene.running)
    world.do("start", scene.running)
    assert scene.guest.run("cat /root/ran") == "a b"
    new.done(new.call("hosting.disk.rollback_from", scene.disks["kept"]))
    world.discard(scene.running, scene.halted)
    world.throw_away(disks=scene.disks.values(), ifaces=scene.ifaces.values())
    assert new.call("hosting.disk.count") == new.call("hosting.iface.count") == 0
    assert [name for name in pool.volumes(scene.libvirt, scene.pool) if name.startswith("seed")] == []
