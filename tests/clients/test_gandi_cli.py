"""gandi.cli: what it reads, and how it is told that something is wrong."""

import pytest

from tests.clients.gandi import Gandi
from tests.devices.kit import World
from tests.service.client import Struct
from tests.service.host import suspended_libvirtd


def test_api(gandi: Gandi) -> None:
    assert gandi.run("api").text == "API version: 3.3.42\n"


def test_datacenters(world: World, gandi: Gandi) -> None:
    said = gandi.run("datacenters", "--id")
    assert said.records[0] == {
        "iso": "FR",
        "name": "Bissy",
        "country": "France",
        "dc_code": "FR-SD5",
        "id": str(world.here),
        "closed for": "paas",
    }
    assert said.column("dc_code") == ["FR-SD5", "LU-BI1"]


def test_images(world: World, gandi: Gandi) -> None:
    listed = [(image["label"], str(image["disk_id"])) for image in world.client.call("hosting.image.list")]
    said = gandi.run("vm", "images")
    shown = [(one["label"], one["disk_id"]) for one in said.records if "disk_id" in one]
    assert shown == listed
    # without an option the client asks for this one
    assert [label for label, _ in listed].count("Debian 8") == 2
    said = gandi.run("vm", "images", "debian", "--datacenter", "LU-BI1")
    assert [(one["label"], one["datacenter"]) for one in said.records] == [("Debian 8", "LU-BI1")]


def test_kernels(world: World, gandi: Gandi) -> None:
    kernels = world.client.call("hosting.disk.list_kernels", world.here)
    said = gandi.run("vm", "kernels", "--datacenter", "FR-SD5")
    assert said.fields["flavor"] in kernels
    for kernel in kernels["linux-hvm"]:
        assert f"version       : {kernel}\n" in said.text
    assert gandi.run("vm", "kernels", "--flavor", "linux-hvm", "gru").column("version") == ["grub", "grub"]


def test_account(gandi: Gandi) -> None:
    fields = gandi.run("account", "info").fields
    assert (fields["handle"], fields["prepaid"]) == ("LOCAL-GANDI", "0.00 EUR")
    assert fields["usage"] == fields["time left"] == "not available"


def test_snapshot_profiles(world: World, gandi: Gandi) -> None:
    said = gandi.run("snapshotprofile", "list")
    profiles = world.client.call("hosting.snapshotprofile.list")
    assert said.column("name") == [one["name"] for one in profiles]
    assert set(said.column("target")) == {"vm"}
    said = gandi.run("snapshotprofile", "info", "security")
    assert said.fields["id"] == "3"
    assert said.column("kept_version") == ["3", "6", "1"]


def test_ssh_keys(world: World, gandi: Gandi) -> None:
    made = gandi.run("sshkey", "create", "--name", "laptop", "--filename", gandi.public_key)
    (key,) = world.client.call("hosting.ssh.list", {"name": "laptop"})
    assert made.fields == {"id": str(key["id"]), "name": "laptop", "fingerprint": key["fingerprint"]}
    assert gandi.run("sshkey", "list", "--id").records == made.records
    shown = gandi.run("sshkey", "info", "laptop", "--value").fields
    assert shown["value"] == world.identity.public
    again = gandi.refused("sshkey", "create", "--name", "laptop", "--filename", gandi.public_key)
    assert "<Fault 501741:" in again
    assert "<Fault 501737:" in gandi.refused("sshkey", "create", "--name", "bad", "--value", "no key")
    assert gandi.run("sshkey", "delete", "laptop").text == ""
    assert "unknown identifier laptop" in gandi.refused("sshkey", "info", "laptop")
    assert world.client.call("hosting.ssh.count") == 0


def test_operations(world: World, gandi: Gandi) -> None:
    with suspended_libvirtd():
        made = world.client.call("hosting.disk.create", {"datacenter_id": world.here, "size": 1024})
        (waiting,) = gandi.run("oper", "list").records
    assert waiting["step"] in ("WAIT", "RUN")
    assert (waiting["id"], waiting["type"]) == (str(made["id"]), "disk_create")
    world.client.done(made)
    said = gandi.run("oper", "info", made["id"]).fields
    assert said == {"id": str(made["id"]), "type": "disk_create", "step": "DONE", "last_error": ""}
    assert gandi.run("oper", "list").text == ""
    assert "<Fault 510242:" in gandi.refused("oper", "info", 999999)
    world.throw_away(disks={made["disk_id"]})


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("a" * 24, "Invalid API key, please use 'gandi setup' command."),
        ("too short", "<Fault 501237:"),
    ],
)
def test_wrong_key(gandi: Gandi, key: str, words: str) -> None:
    gandi.environment["API_KEY"] = key
    said = gandi.attempt("vm", "list")
    assert said.status == (1 if key.startswith("a") else 2)
    assert words in said.text + said.errors
    # this call swallows every fault
    said = gandi.attempt("datacenters")
    assert (said.text, said.errors, said.status) == ("", "", 0)


@pytest.mark.parametrize(
    "command",
    [
        ("vm", "info"),
        ("vm", "stop"),
        ("vm", "start"),
        ("vm", "reboot"),
        ("vm", "ssh"),
        ("vm", "update", "--cores", "2"),
        ("disk", "info"),
        ("disk", "detach", "-f"),
        ("disk", "delete", "-f"),
        ("disk", "rollback"),
        ("disk", "snapshot"),
        ("ip", "info"),
        ("vlan", "info"),
        ("sshkey", "info"),
    ],
)
def test_unknown_names_and_ids(gandi: Gandi, command: tuple[str, ...]) -> None:
    assert "Error: unknown identifier nobody" in gandi.refused(*command, "nobody")
    answer = gandi.refused(*command, "999999")
    assert "doesn't exist.]" in answer
    assert "42: " in answer


@pytest.mark.parametrize("kind", ["vm", "ip", "vlan"])
def test_deleting_what_is_not_there(gandi: Gandi, kind: str) -> None:
    said = gandi.run(kind, "delete", "-f", "nobody")
    assert said.text.startswith("Sorry ")
    assert "nobody does not exist" in said.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--hostname", "bad name"), "<Fault 530238:"),
        (("--memory", "100"), "<Fault 530237:"),
        (("--cores", "999"), "<Fault 530237:"),
        (("--login", "Root"), "<Fault 501237:"),
        (("--bandwidth", "-1"), "<Fault 501037:"),
        (("--size", "1500M"), "Size must be a multiple of 1024."),
        (("--image", "Windows"), "invalid choice: Windows. (choose from Debian 8, Tiny"),
        (("--datacenter", "US"), "invalid choice: US. (choose from FR-SD5, LU-BI1, FR, LU)"),
        (("--vlan", "nobody"), "unknown identifier nobody"),
        (("--sshkey", "nobody"), "unknown identifier nobody"),
    ],
)
def test_bad_values_make_nothing(world: World, gandi: Gandi, options: tuple[str, ...], words: str) -> None:
    before = world.service.inventory()
    status = 1 if "multiple" in words else 2
    complaint = gandi.refused("vm", "create", "--sshkey", gandi.public_key, *options, status=status)
    assert words in complaint
    assert world.service.inventory() == before


def test_what_is_not_served(gandi: Gandi) -> None:
    for command, method in (
        (("domain", "list"), "domain.list"),
        (("paas", "list"), "paas.list"),
        (("certificate", "list"), "cert.list"),
    ):
        assert f"<Fault 1: 'Method \"{method}\" is not supported'>" in gandi.refused(*command)


def test_an_attached_disk_does_not_migrate(world: World, gandi: Gandi, web: Struct) -> None:
    said = gandi.run("disk", "migrate", "-f", web["disks"][0]["name"])
    assert "Please detach the disk before starting the migration." in said.text
    assert world.client.vm(web["id"])["datacenter_id"] == world.here
