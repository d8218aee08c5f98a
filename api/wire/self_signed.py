"""A certificate that the service makes for itself, for clients that are told to trust it."""

import ipaddress
import logging
import os
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from api.wire.tls import TlsError, load, read

if TYPE_CHECKING:
    from cryptography import x509

LIFETIME = timedelta(days=825)
"""How long a certificate is good: some clients accept no more."""

EARLY = timedelta(days=30)
"""How long before its end it is made anew."""

_SKEW = timedelta(hours=1)  # by which a client's clock may be behind

log = logging.getLogger(__name__)


class SelfSigned:
    """The certificate `cert` and its `key`, for all of `names` (host names and IP addresses)."""

    def __init__(self, cert: Path, key: Path, names: Collection[str]) -> None:
        self._cert, self._key = cert, key
        self._names = frozenset(names)
        self._renew_at: datetime | None = None

    def refresh(self) -> None:
        """Have files that can be used, for `EARLY` at least; raises `OSError`."""
        if self._renew_at is not None and datetime.now(UTC) < self._renew_at:
            return
        found = self._usable()
        if found is None:
            make(self._cert, self._key, self._names)
            found = read(self._cert).ends - EARLY
            log.info("made the certificate %s", self._cert)
        self._renew_at = found

    def _usable(self) -> datetime | None:
        """When the files have to be made anew; None when that is now."""
        try:
            load(self._cert, self._key)
            shown = read(self._cert)
        except TlsError:
            return None
        early = shown.ends - EARLY
        return early if early > datetime.now(UTC) and self._names <= shown.names else None


def make(cert: Path, key: Path, names: Collection[str], lifetime: timedelta = LIFETIME) -> None:
    """Write a new key (for its owner only) and a certificate for `names` that is good for `lifetime`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "hosting-api")])
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(private.public_key())
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectAlternativeName([_general(one) for one in sorted(names)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    _write(key, private.private_bytes(serialization.Encoding.PEM, *form), 0o600)
    _write(cert, made.public_bytes(serialization.Encoding.PEM), 0o644)


def _general(name: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(file: Path, content: bytes, mode: int) -> None:
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as written:
        os.fchmod(descriptor, mode)
        written.write(content)
    new.rename(file)
