"""A seed says what it was told, to cloud-init and to a small shell alike, and nothing breaks out of it."""

import base64
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pycdlib
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import hypervisor.image
from hypervisor.seed import Seed, SeedError, build_iso, meta_data, read_iso, user_data

KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrYElN it\'s "me" é \U0001f600'
HASH = "$6$salt$" + "a" * 86
AWK = Path(hypervisor.image.__file__).with_name("tiny") / "skel/usr/lib/tiny/json.awk"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def config(seed: Seed) -> Any:
    text = user_data(seed)
    assert text.startswith("#cloud-config\n")
    assert yaml.safe_load(text) == json.loads(text.partition("\n")[2])
    return yaml.safe_load(text)


def content(document: Any, path: str) -> bytes:
    (entry,) = [entry for entry in document["write_files"] if entry["path"] == path]
    return base64.b64decode(entry["content"])


def test_iso_is_what_a_guest_looks_for(tmp_path: Path) -> None:
    seed = Seed("i-1", "web", ssh_keys=(KEY,))
    (tmp_path / "seed.iso").write_bytes(build_iso(seed))
    label = subprocess.run(
        ["blkid", "-o", "value", "-s", "LABEL", tmp_path / "seed.iso"], capture_output=True
    )
    assert label.stdout.strip() == b"cidata"
    iso = pycdlib.PyCdlib()
    iso.open(str(tmp_path / "seed.iso"))
    for view in ("rr_path", "joliet_path"):
        read = io.BytesIO()
        iso.get_file_from_iso_fp(read, **{view: "/user-data"})
        assert read.getvalue().decode() == user_data(seed)
        read = io.BytesIO()
        iso.get_file_from_iso_fp(read, **{view: "/meta-data"})
        assert json.loads(read.getvalue()) == {"instance-id": "i-1", "local-hostname": "web"}
    iso.close()


@given(
    st.builds(
        Seed,
        instance_id=st.just("i-1"),
        hostname=st.just("web.example.net"),
        login=st.none() | st.just("alice"),
        password_hash=st.none() | st.just(HASH),
        ssh_keys=st.lists(st.just(KEY), max_size=2).map(tuple),
        run=st.none() | TEXT,
        script=st.none() | TEXT,
        script_args=st.none() | TEXT.map(lambda text: text.replace("\0", "")),
    )
)
def test_what_is_read_from_an_iso_tells_a_guest_the_same(seed: Seed) -> None:
    read = read_iso(build_iso(seed))
    assert (user_data(read), meta_data(read)) == (user_data(seed), meta_data(seed))


@pytest.mark.parametrize("image", [b"", bytes(2**17), b"CD001" * 9000])
def test_another_image_is_no_seed(image: bytes) -> None:
    with pytest.raises(SeedError, match="no seed of ours"):
        read_iso(image)


def test_accounts() -> None:
    document = config(Seed("i", "h", "alice", HASH, (KEY,)))
    root, alice = document["users"]
    assert (root["name"], alice["name"]) == ("root", "alice")
    assert root["hashed_passwd"] == alice["hashed_passwd"] == HASH
    assert root["ssh_authorized_keys"] == alice["ssh_authorized_keys"] == [KEY]
    assert alice["sudo"]
    assert document["ssh_pwauth"] is True
    assert document["disable_root"] is False
    assert b"PermitRootLogin yes" in content(document, "/etc/ssh/sshd_config.d/50-cloud-init.conf")


def test_without_a_password_nothing_is_opened_or_locked() -> None:
    document = config(Seed("i", "h", "root", ssh_keys=(KEY,)))
    assert [user["name"] for user in document["users"]] == ["root"]
    assert "hashed_passwd" not in document["users"][0]
    assert document["users"][0]["lock_passwd"] is False
    assert not {"ssh_pwauth", "write_files", "runcmd"} & document.keys()


@pytest.mark.parametrize(
    ("script", "arguments", "command"),
    [
        ("#!/bin/bash\n", "a 'b c' \"$HOME\"", ["/var/lib/hypervisor/script", "a", "b c", "$HOME"]),
        ("echo", None, ["/bin/sh", "/var/lib/hypervisor/script"]),
        ("echo", "don't; reboot", ["/bin/sh", "/var/lib/hypervisor/script", "don't;", "reboot"]),
    ],
)
def test_script_then_run(script: str, arguments: str | None, command: list[str]) -> None:
    document = config(Seed("i", "h", run="true", script=script, script_args=arguments))
    assert document["runcmd"] == [command, ["/bin/sh", "/var/lib/hypervisor/run"]]
    assert content(document, "/var/lib/hypervisor/script").decode() == script


def test_script_keeps_its_bytes() -> None:
    raw = bytes(range(256))
    document = config(Seed("i", "h", script=raw.decode("utf-8", "surrogateescape")))
    assert content(document, "/var/lib/hypervisor/script") == raw


@given(run=TEXT, script=TEXT, arguments=TEXT.filter(lambda text: "\0" not in text))
def test_any_text_arrives(run: str, script: str, arguments: str) -> None:
    document = config(Seed("i", "h", run=run or None, script=script or None, script_args=arguments))
    if run:
        assert content(document, "/var/lib/hypervisor/run").decode() == f"{run}\n"
    if script:
        assert content(document, "/var/lib/hypervisor/script").decode() == script


@pytest.mark.parametrize(
    "fields",
    [
        {"hostname": "a b"}, {"hostname": "-a"}, {"hostname": ""}, {"instance_id": "a'b"},
        {"instance_id": ""}, {"login": "a:b"}, {"login": "Root"}, {"login": "a\n"},
        {"password_hash": "plain"},
        {"password_hash": "$6$a:b"}, {"ssh_keys": ("a\nb",)}, {"ssh_keys": ("",)}, {"script_args": "\0"},
        {"script": "\ud800"}, {"run": "\ud800"},
    ],
)  # fmt: skip
def test_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(SeedError):
        Seed(**{"instance_id": "i", "hostname": "h", **fields})


def test_error_does_not_show_a_secret() -> None:
    with pytest.raises(SeedError) as error:
        Seed("i", "h", password_hash="hunter2")
    assert "hunter2" not in str(error.value)


def parsed(text: str, tmp_path: Path) -> str:
    """What the small guest's parser makes of a document, run by a shell that prints each call's arguments."""
    commands = tmp_path / "commands"
    commands.write_text("")
    plan = subprocess.run(
        ["busybox", "awk", "-v", f"commands={commands}", "-f", AWK],
        input=text.encode(),
        capture_output=True,
        check=True,
    ).stdout.decode()
    names = ("instance", "hostname_is", "account", "password", "key", "file", "execute")
    functions = "".join(f"{name}() {{ printf '%s' {name}; printf '|%s' \"$@\"; echo; }}\n" for name in names)
    shell = functions + plan + commands.read_text()
    return subprocess.run(
        ["busybox", "sh"], input=shell.encode(), capture_output=True, check=True
    ).stdout.decode()


def test_the_small_guest_reads_the_same(tmp_path: Path) -> None:
    seed = Seed(
        "i-1",
        "web",
        "alice",
        HASH,
        (KEY,),
        script="#!/bin/sh\n",
        script_args="'it'\"'\"'s' $(reboot) `x` é\x85",
    )
    encoded = config(seed)["write_files"][0]["content"]
    lines = parsed(user_data(seed), tmp_path).splitlines()
    assert lines[:6] == [
        "account|root", f"password|root|{HASH}", f"key|root|{KEY}",
        "account|alice", f"password|alice|{HASH}", f"key|alice|{KEY}",
    ]  # fmt: skip
    assert lines[6] == f"file|/var/lib/hypervisor/script|0700|b64|{encoded}"
    assert parsed(meta_data(seed), tmp_path).splitlines() == ["instance|i-1", "hostname_is|web"]


@pytest.mark.parametrize(
    "argument", ["it's", "$(reboot)", "`x`", "a\\b", "é\U0001f600", "\t", "\x85", '"', "\x01"]
)
def test_the_small_guest_keeps_arguments(tmp_path: Path, argument: str) -> None:
    text = "#cloud-config\n" + json.dumps({"runcmd": [["x", argument]]}, ensure_ascii=True)
    assert parsed(text, tmp_path) == f"execute|x|{argument}\n"
    text = "#cloud-config\n" + json.dumps({"runcmd": [["x", argument]]}, ensure_ascii=False, indent=1)
    assert parsed(text, tmp_path) == f"execute|x|{argument}\n"
