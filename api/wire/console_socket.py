"""Where the consoles are to be had; apart from their server, because the processes around it stay small."""

import logging
import socket

from api.wire.listen import listener, parse_listen

SSH = 22

log = logging.getLogger(__name__)


def console_url(host: str, port: int) -> str:
    """What follows ``ssh ADDRESS@`` to get to the console: clients put it into a shell's line."""
    return host if port == SSH else f"{host} -p {port}"


def open_console(address: str) -> tuple[socket.socket | None, int]:
    """The socket at `address` and the port that it really has; no socket when the port cannot be had.

    Raises `ValueError` for what is no address.
    """
    listen = parse_listen(address)
    try:
        opened = listener(listen)
    except OSError as error:
        reason = error.strerror or error
        log.warning("no consoles: %s: free it, or set console_listen to another HOST:PORT", reason)
        return None, getattr(listen, "port", SSH)
    name = opened.getsockname()
    return opened, int(name[1]) if isinstance(name, tuple) else SSH
