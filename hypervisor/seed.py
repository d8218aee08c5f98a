"""What a guest is told at its first boot: a NoCloud seed on a small ISO.

The documents are JSON, which is YAML too: cloud-init reads them, and so does a guest with less than a YAML
parser. Nothing in them can break out: texts of any content travel as base64, commands as argument vectors.
"""

import base64
import io
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pycdlib
from pycdlib.pycdlibexception import PyCdlibException

from hypervisor.errors import HypervisorError

LABEL = "cidata"
_LEAST_SIZE = 128 * 1024
_FOLDER = "/var/lib/hypervisor"  # in the guest: what runs at first boot stays there to be looked at
_SCRIPT, _RUN = f"{_FOLDER}/script", f"{_FOLDER}/run"
# the file that cloud-init keeps ssh's password setting in: it finds what it would write and restarts nothing
_SSHD = "/etc/ssh/sshd_config.d/50-cloud-init.conf"
_SSHD_TEXT = "PasswordAuthentication yes\nPermitRootLogin yes\n"
_INSTANCE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_HOSTNAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_LOGIN = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HASH = re.compile(r"\$[0-9a-z]+\$[!-9;-~]+")  # crypt(3); a colon would end the field of /etc/shadow
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# characters that JSON leaves alone and YAML wants escaped
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


class SeedError(HypervisorError, ValueError):
    """A value cannot be given to a guest; the text names the field."""


@dataclass(frozen=True, slots=True)
class Seed:
    """What a guest is to make of itself.

    Attributes:
        instance_id: a guest applies a seed once for each id; a new id applies it again.
        hostname: a host name, with or without a domain.
        login: an account to make beside root, with sudo where the guest has it.
        password_hash: the password of root and `login` as a crypt(3) string such as SHA-512's `$6$...`.
        Without
            one, passwords stay as they are; with one, ssh accepts it too, for root as well.
        ssh_keys: public keys that may log in as root and as `login`, one line each.
        run: a shell command for root, run from `/` at the end of the first boot, after `script`.
        script: a script for root, run at the first boot by its `#!` line, or else by sh. Surrogate escapes
        stand
            for bytes that are not UTF-8.
        script_args: its arguments, as they would be typed in a shell (quotes group words, nothing is
        expanded).

    Raises:
        SeedError: a field holds what no guest could take.
    """

    instance_id: str
    hostname: str
    login: str | None = None
    password_hash: str | None = None
    ssh_keys: tuple[str, ...] = ()
    run: str | None = None
    script: str | None = None
    script_args: str | None = None

    def __post_init__(self) -> None:
        _must_match("instance_id", self.instance_id, _INSTANCE_ID)
        _must_match("hostname", self.hostname, _HOSTNAME)
        if self.login is not None:
            _must_match("login", self.login, _LOGIN)
        if self.password_hash is not None:
            _must_match("password_hash", self.password_hash, _HASH, secret=True)
        for key in self.ssh_keys:
            if not key.strip() or _CONTROL.search(key) or not _encodable(key):
                raise SeedError("ssh_keys: a public key is one line of printable text")
        if self.script_args is not None and ("\0" in self.script_args or not _encodable(self.script_args)):
            raise SeedError("script_args: not text that a command line can hold")
        for field, text in (("run", self.run), ("script", self.script)):
            if text is not None and not _encodable(text, "surrogateescape"):
                raise SeedError(f"{field}: not text")


def build_iso(seed: Seed) -> bytes:
    """Make the ISO image of a seed: volume label `cidata`, with Rock Ridge and Joliet names."""
    documents = {"meta-data": meta_data(seed), "user-data": user_data(seed)}
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, vol_ident=LABEL, joliet=3, rock_ridge="1.09")
    try:
        for name, text in documents.items():
            content = text.encode()
            plain = name.replace("-", "").upper()
            iso.add_fp(
                io.BytesIO(content), len(content), f"/{plain}.;1", rr_name=name, joliet_path=f"/{name}",
                file_mode=0o100400,  # a password hash is in it
            )  # fmt: skip
        image = io.BytesIO()
        iso.write_fp(image)
    finally:
        iso.close()
    # small probing tools (busybox's findfs) give up on a disk that ends before the last place they look at
    return image.getvalue().ljust(_LEAST_SIZE, b"\0")


def read_iso(image: bytes) -> Seed:
    """The seed that `build_iso` wrote; its `script_args` are the same words, perhaps quoted otherwise. Raises
    `SeedError` for any other image."""
    iso = pycdlib.PyCdlib()
    try:
        iso.open_fp(io.BytesIO(image))
        try:
            meta, user = (json.loads(_document(iso, name)) for name in ("meta-data", "user-data"))
        finally:
            iso.close()
        return _seed(meta, user)
    except (PyCdlibException, ValueError, LookupError, TypeError) as error:
        raise SeedError(f"the image is no seed of ours: {error}") from error


def _document(iso: Any, name: str) -> str:
    content = io.BytesIO()
    iso.get_file_from_iso_fp(content, joliet_path=f"/{name}")
    return content.getvalue().decode().removeprefix("#cloud-config\n")


def _seed(meta: Any, user: Any) -> Seed:
    root, *others = user["users"]
    files = {one["path"]: base64.b64decode(one["content"]) for one in user.get("write_files", [])}
    texts = {path: content.decode("utf-8", "surrogateescape") for path, content in files.items()}
    words: list[str] = next((one for one in user.get("runcmd", []) if _SCRIPT in one), [])
    arguments = words[words.index(_SCRIPT) + 1 :] if words else []
    return Seed(
        instance_id=meta["instance-id"],
        hostname=meta["local-hostname"],
        login=others[0]["name"] if others else None,
        password_hash=root.get("hashed_passwd"),
        ssh_keys=tuple(root["ssh_authorized_keys"]),
        run=texts[_RUN].removesuffix("\n") if _RUN in texts else None,
        script=texts.get(_SCRIPT),
        script_args=shlex.join(arguments) or None,
    )


def meta_data(seed: Seed) -> str:
    """The `meta-data` document: who the guest is."""
    return _json({"instance-id": seed.instance_id, "local-hostname": seed.hostname})


def user_data(seed: Seed) -> str:
    """The `user-data` document, a `#cloud-config`: what the guest makes of itself."""
    document: dict[str, object] = {
        "disable_root": False,
        "manage_etc_hosts": "localhost",  # the own name resolves, or sudo waits for it
        "users": _users(seed),
    }
    files, commands = _first_boot(seed)
    if seed.password_hash is not None:
        document["ssh_pwauth"] = True
        files.append(_file(_SSHD, _SSHD_TEXT.encode(), "0600"))
    if files:
        document["write_files"] = files
    if commands:
        document["runcmd"] = commands
    return f"#cloud-config\n{_json(document)}"


def _users(seed: Seed) -> list[dict[str, object]]:
    # a password that was set stays until another one comes: never lock what an earlier seed opened
    common: dict[str, object] = {"lock_passwd": False, "ssh_authorized_keys": list(seed.ssh_keys)}
    if seed.password_hash is not None:
        common["hashed_passwd"] = seed.password_hash
    users: list[dict[str, object]] = [{"name": "root", **common}]
    if seed.login is not None and seed.login != "root":
        users.append({"name": seed.login, "sudo": ["ALL=(ALL) NOPASSWD:ALL"], "shell": "/bin/bash", **common})
    return users


def _first_boot(seed: Seed) -> tuple[list[Mapping[str, str]], list[Sequence[str]]]:
    files: list[Mapping[str, str]] = []
    commands: list[Sequence[str]] = []
    if seed.script:
        content = seed.script.encode("utf-8", "surrogateescape")
        files.append(_file(_SCRIPT, content, "0700"))
        interpreter = [] if content.startswith(b"#!") else ["/bin/sh"]
        commands.append([*interpreter, _SCRIPT, *_words(seed.script_args or "")])
    if seed.run:
        files.append(_file(_RUN, seed.run.encode("utf-8", "surrogateescape") + b"\n", "0700"))
        commands.append(["/bin/sh", _RUN])
    return files, commands


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # a lone quote: then it is no quote
        return line.split()


def _file(path: str, content: bytes, permissions: str) -> Mapping[str, str]:
    encoded = base64.b64encode(content).decode("ascii")
    return {"path": path, "permissions": permissions, "encoding": "b64", "content": encoded}


def _json(document: Mapping[str, object]) -> str:
    text = json.dumps(document, ensure_ascii=False, indent=1)
    return _NOT_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def _must_match(field: str, value: str, pattern: re.Pattern[str], *, secret: bool = False) -> None:
    if not pattern.fullmatch(value):
        raise SeedError(f"{field}: not acceptable" if secret else f"{field}: {value!r} is not acceptable")


def _encodable(text: str, errors: str = "strict") -> bool:
    try:
        text.encode("utf-8", errors)
    except UnicodeEncodeError:
        return False
    return True
