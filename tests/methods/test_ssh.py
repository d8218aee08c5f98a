"""SSH keys: what is a public key, and the keys that an account keeps."""

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.methods.public_key import InvalidPublicKey, parse_public_key
from tests.methods.world import BOB, World

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
FINGERPRINT = "65:96:2d:fc:e8:d5:a9:11:64:0c:0f:ea:00:6e:5b:bd"


def packed(*parts: bytes) -> str:
    """A binary key of these parts, in base64."""
    return base64.b64encode(b"".join(len(part).to_bytes(4) + part for part in parts)).decode()


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("ssh-rsa", (b"\1\0\1", b"\0" + b"\xff" * 256)),
        ("ssh-ed25519", (b"x" * 32,)),
        ("ecdsa-sha2-nistp256", (b"nistp256", b"\4" + b"x" * 64)),
        ("ecdsa-sha2-nistp384", (b"nistp384", b"\4" + b"x" * 96)),
        ("ecdsa-sha2-nistp521", (b"nistp521", b"\4" + b"x" * 132)),
        ("sk-ssh-ed25519@openssh.com", (b"x" * 32, b"ssh:")),
        ("sk-ecdsa-sha2-nistp256@openssh.com", (b"nistp256", b"\4" + b"x" * 64, b"ssh:")),
    ],
)
def test_types(kind: str, parts: tuple[bytes, ...]) -> None:
    encoded = packed(kind.encode(), *parts)
    for text, comment in (
        (f"{kind} {encoded}", ""),
        (f"  {kind}  {encoded} me@home, at work\r\n", "me@home, at work"),
    ):
        key = parse_public_key(text)
        assert (key.type, key.blob, key.comment) == (kind, base64.b64decode(encoded), comment)
        assert str(key) == f"{kind} {encoded} {comment}".rstrip()
        assert parse_public_key(str(key)) == key


ED25519 = packed(b"ssh-ed25519", b"x" * 32)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no type of public key"),
        ("ssh-ed25519", "but its binary form does not"),
        ("ssh-ed25519 !!!!", "not base64"),
        (f"ssh-ed25519 {ED25519[:-5]}", "not base64"),
        (f"ssh-ed25519 {ED25519[:-4]}", "cut off"),
        (f"ssh-ed25519 {ED25519}AAAA", "not base64|cut off|too long"),
        (f"ssh-rsa {ED25519}", "says that it is ssh-rsa"),
        (f"ssh-ed25519 {packed(b'ssh-ed25519')}", "incomplete"),
        (f"ssh-ed25519 {packed(b'ssh-ed25519', b'')}", "incomplete"),
        (f"ssh-ed25519 {packed(b'ssh-ed25519', b'x' * 32, b'y')}", "too long"),
        (f"ssh-rsa {packed(b'ssh-rsa', b'1')}", "incomplete"),
        (f"ssh-dss {packed(b'ssh-dss', b'p', b'q', b'g', b'y')}", "no type of public key"),
        (f'command="reboot" ssh-ed25519 {ED25519}', "options before"),
        (f"no-pty ssh-ed25519 {ED25519}", "options before"),
        (f"ssh-ed25519 {ED25519}\nssh-ed25519 {ED25519}", "one line"),
        (f"ssh-ed25519 {ED25519} a\0b", "control characters"),
        (f"ssh-ed25519 {ED25519} a\tb", "control characters"),
        (f"ssh-ed25519-cert-v01@openssh.com {ED25519}", "no type of public key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "no type of public key"),
        (f"ssh-ed25519 {ED25519} {'x' * 16384}", "at most 16384"),
    ],
)
def test_what_is_none(text: str, reason: str) -> None:
    with pytest.raises(InvalidPublicKey, match=reason):
        parse_public_key(text)


@given(
    st.text(max_size=60) | st.builds("ssh-rsa {}".format, st.binary().map(base64.b64encode).map(bytes.decode))
)
def test_whatever_comes_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(InvalidPublicKey):
        parse_public_key(text)


@pytest.mark.parametrize("kind", ["rsa", "ed25519", "ecdsa"])
def test_keys_of_openssh(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    try:
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "me", "-f", file], check=True)
    except FileNotFoundError:
        pytest.skip("OpenSSH's ssh-keygen is not installed")
    public = file.with_suffix(".pub")
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-E", "md5", "-f", public], check=True, capture_output=True, text=True
    )
    assert f"MD5:{parse_public_key(public.read_text()).fingerprint}" in shown.stdout


def test_a_key_kept_and_forgotten(world: World) -> None:
    created = world.call("hosting.ssh.create", {"name": "laptop", "value": f"{KEY} me@home\n"})
    shown = {"id": created["id"], "name": "laptop", "fingerprint": FINGERPRINT}
    assert created == {**shown, "value": f"{KEY} me@home"}
    assert world.call("hosting.ssh.list") == [shown]
    assert world.call("hosting.ssh.info", created["id"]) == created
    assert world.call("ssh.count") == 1
    assert world.call("hosting.ssh.delete", created["id"]) is True
    assert world.call("hosting.ssh.count") == 0
    assert world.fault("hosting.ssh.delete", created["id"]).code == 501742
    assert world.fault("hosting.ssh.info", created["id"]).text.endswith("[SSH key '1' doesn't exist.]")


def test_filters(world: World) -> None:
    ids = [world.call("hosting.ssh.create", {"name": name, "value": KEY})["id"] for name in ("b", "a", "134")]
    for options, found in (
        ({"name": "a"}, ids[1:2]),
        ({"name": "134"}, ids[2:]),
        ({"name": 134}, []),
        ({"name": str(ids[0])}, []),
        ({"name": ["a", "b"]}, ids[:2]),
        ({"id": ids[0]}, ids[:1]),
        ({"fingerprint": FINGERPRINT, "sort_by": "name"}, [ids[2], ids[1], ids[0]]),
        ({"items_per_page": 1, "page": 1}, ids[1:2]),
    ):
        assert [one["id"] for one in world.call("hosting.ssh.list", options)] == found, options


def test_a_name_stands_once_per_account(world: World) -> None:
    world.call("hosting.ssh.create", {"name": "laptop", "value": KEY})
    fault = world.fault("hosting.ssh.create", {"name": "laptop", "value": KEY})
    assert (fault.code, fault.fields) == (501741, ("key_spec", "name"))
    assert "a key named 'laptop' already exists" in fault.text
    assert world.call("hosting.ssh.create", {"name": "laptop", "value": KEY}, key=BOB)["name"] == "laptop"
    assert world.call("hosting.ssh.create", {"name": "Laptop", "value": KEY})["name"] == "Laptop"


@pytest.mark.parametrize(
    ("spec", "code", "path"),
    [
        ({"name": "a"}, 501537, ("key_spec", "value")),
        ({"value": KEY}, 501537, ("key_spec", "name")),
        ({"name": "", "value": KEY}, 501736, ("key_spec", "name")),
        ({"name": "a\nb", "value": KEY}, 501736, ("key_spec", "name")),
        ({"name": "x" * 256, "value": KEY}, 501237, ("key_spec", "name")),
        ({"name": "a", "value": "nonsense"}, 501737, ("key_spec", "value")),
        ({"name": "a", "value": f"no-pty {KEY}"}, 501737, ("key_spec", "value")),
        ({"name": "a", "value": [KEY]}, 501210, ("key_spec", "value")),
    ],
)
def test_wrong_key(world: World, spec: object, code: int, path: tuple[str, ...]) -> None:
    fault = world.fault("hosting.ssh.create", spec)
    assert (fault.code, fault.fields) == (code, path)
    assert world.call("hosting.ssh.count") == 0
