"""The certificate that the server shows, and its key: checked, and taken up anew when the files change."""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from api.wire.bounded import BoundedTlsSocket

log = logging.getLogger(__name__)

_OTHER_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")


class TlsError(Exception):
    """The certificate or its key cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is told of a certificate; `ends` is in UTC."""

    ends: datetime
    names: frozenset[str]
    fingerprint: str


class Tls:
    """The files `cert` (PEM; the server's own certificate first, then those between it and a root) and `key`
    (PEM, without a password).

    `refresh` is asked before the files are looked at and may make them anew.
    """

    def __init__(self, cert: Path, key: Path, refresh: Callable[[], None] = lambda: None) -> None:
        self.cert, self.key = cert, key
        self._refresh = refresh
        self._seen: object = None
        self._context: ssl.SSLContext | None = None

    def open(self) -> None:
        """Load both; raises `TlsError`."""
        self._refresh()
        self._seen = self._state()
        self._context = load(self.cert, self.key)

    def context(self) -> ssl.SSLContext:
        """What a new connection gets: from the files as they are now, while they can be used."""
        try:
            self._refresh()
            if self._context is None or self._state() != self._seen:
                self._seen = self._state()
                self._context = load(self.cert, self.key)
                log.info("a new certificate is in use: SHA-256 %s", read(self.cert).fingerprint)
        except (TlsError, OSError) as error:
            log.warning("the certificate in use stays: %s", error)
        if self._context is None:
            raise TlsError(f"{self.cert} was never loaded")
        return self._context

    def _state(self) -> object:
        """Something that differs when one of the files does."""
        found: list[object] = []
        for file in (self.cert, self.key):
            try:
                status = file.stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return found


def load(cert: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 and newer with that certificate and key; raises `TlsError`."""
    shown = read(cert)
    _bytes(key, "key")
    if shown.ends <= datetime.now(UTC):
        raise TlsError(f"the certificate {cert} ended on {shown.ends:%Y-%m-%d %H:%M} UTC: renew it")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.sslsocket_class = BoundedTlsSocket
    try:
        # an empty password, for without one OpenSSL asks at the terminal
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        if error.reason in _OTHER_KEY:
            raise TlsError(f"the key {key} does not belong to the certificate {cert}") from None
        raise TlsError(
            f"the key {key} is no private key in PEM form without a password, or OpenSSL refuses the "
            f"certificate {cert} ({error.reason or error})"
        ) from None
    return context


def read(cert: Path) -> Certificate:
    """What the first certificate in `cert` says; raises `TlsError`."""
    # 12 MiB that a server without TLS does not need
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    content = _bytes(cert, "certificate")
    try:
        first = x509.load_pem_x509_certificates(content)[0]
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        known = names.get_values_for_type(x509.DNSName)
        known += [str(one) for one in names.get_values_for_type(x509.IPAddress)]
    except x509.ExtensionNotFound:
        known = []
    except ValueError:
        raise TlsError(f"{cert} holds no certificate in PEM form") from None
    fingerprint = first.fingerprint(hashes.SHA256()).hex(":").upper()
    return Certificate(first.not_valid_after_utc, frozenset(known), fingerprint)


def _bytes(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TlsError(f"the {what} {file} cannot be read: {error.strerror}") from None
