"""SSH public keys on one line, as OpenSSH writes them (RFC 4253 section 6.6, RFC 5656, RFC 8709)."""

import base64
import binascii
import hashlib
from dataclasses import dataclass

_MAX_LINE = 16384

# key type -> how many fields follow the type in the binary form
_FIELDS = {
    "ssh-rsa": 2,  # e, n
    "ssh-ed25519": 1,  # the point
    "ecdsa-sha2-nistp256": 2,  # curve, point
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "sk-ssh-ed25519@openssh.com": 2,  # point, application
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,  # curve, point, application
}


class InvalidPublicKey(ValueError):
    """The text is no public key that a guest's sshd would take; it says why."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key; `blob` is its binary form."""

    type: str
    blob: bytes
    comment: str

    @property
    def fingerprint(self) -> str:
        """The MD5 of the binary form, as pairs of hexadecimal digits between colons."""
        return hashlib.md5(self.blob, usedforsecurity=False).digest().hex(":")

    def __str__(self) -> str:
        """The key as a line of an ``authorized_keys`` file, without a newline."""
        encoded = base64.b64encode(self.blob).decode()
        return f"{self.type} {encoded} {self.comment}".rstrip()


def parse_public_key(text: str) -> PublicKey:
    """Read one OpenSSH public key; blanks and newlines around it are dropped.

    Raises `InvalidPublicKey` for everything else, options before the key (``command=``) too: those would be
    instructions to the guest's sshd, not a key.
    """
    line = text.strip()
    if len(line) > _MAX_LINE:
        raise InvalidPublicKey(f"a public key has at most {_MAX_LINE} characters")
    if not line.isprintable():
        raise InvalidPublicKey("a public key is one line without control characters")
    kind, _, rest = line.partition(" ")
    if kind not in _FIELDS:
        raise InvalidPublicKey(_unknown(line, kind))
    encoded, _, comment = rest.strip().partition(" ")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidPublicKey(f"what follows {kind} is not base64") from None
    inner, *fields = _split(blob)
    if inner != kind.encode():
        raise InvalidPublicKey(f"the key says that it is {kind}, but its binary form does not")
    if len(fields) != _FIELDS[kind] or not all(fields):
        raise InvalidPublicKey(f"the binary form of a {kind} key is incomplete or too long")
    return PublicKey(kind, blob, comment.strip())


def _unknown(line: str, kind: str) -> str:
    if any(f" {known} " in line for known in _FIELDS):
        return "options before a public key are not allowed: give the key alone"
    return f"{kind[:40]!r} is no type of public key: use one of {', '.join(_FIELDS)}"


def _split(blob: bytes) -> list[bytes]:
    """The length-prefixed strings that `blob` consists of (RFC 4251 section 5), at least one."""
    parts = []
    place = 0
    while place < len(blob):
        end = place + 4 + int.from_bytes(blob[place : place + 4])
        if end > len(blob):
            raise InvalidPublicKey("the binary form of the key is cut off")
        parts.append(blob[place + 4 : end])
        place = end
    return parts or [b""]
