"""The certificate that the settings ask for."""

import os
import socket
from urllib.parse import urlsplit

from api.settings import Settings
from api.wire.listen import Tcp, parse_listen
from api.wire.self_signed import SelfSigned
from api.wire.tls import Tls

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - addresses that no client connects to
_HERE = ("localhost", "127.0.0.1", "::1")


def tls(settings: Settings) -> Tls | None:
    """What the API is encrypted with, None for plain HTTP; nothing is read or made yet."""
    if not settings.tls.on:
        return None
    if not settings.tls.self_signed:
        return Tls(*settings.certificate)
    return Tls(*settings.certificate, SelfSigned(*settings.certificate, _names(settings)).refresh)


def _names(settings: Settings) -> set[str]:
    """By which clients may know this server."""
    addresses = f"{settings.listen} {os.environ.get('HYPERVISOR_LAB_LISTEN', '')}".split()
    listening = {one.host for one in map(parse_listen, addresses) if isinstance(one, Tcp)}
    names = {*_HERE, socket.gethostname(), *listening, settings.console_host, *settings.tls.names}
    if settings.public_url is not None:
        names.add(urlsplit(settings.public_url).hostname or "")
    return names - {*_EVERYWHERE, ""}
