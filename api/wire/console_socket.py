"""Where the consoles are to be had; apart from their server, because the processes around it stay small."""

import logging
import socket

from api.wire.listen import listener, parse_listen

SSH = 22

log = logging.getLogger(__name__)


def console_url(host: str, port: int) -> str:
    """What follows ``ssh ADDRESS@`` to get to the console: clients put it into a shell's line."""
    return host if port == SSH else f"{host} -p {port}"


def open_console(addresses: str) -> tuple[list[socket.socket], int]:
    """The sockets at `addresses`, separated by blanks, and the port that the first one really has.

    An address that cannot be had is left out. Raises `ValueError` for what is no address.
    """
    opened, ports = [], []
    for listen in [parse_listen(one) for one in addresses.split()]:
        try:
            one = listener(listen)
        except OSError as error:
            reason = error.strerror or error
            log.warning("no consoles: %s: free it, or set console_listen to another HOST:PORT", reason)
            ports.append(getattr(listen, "port", SSH))
        else:
            name = one.getsockname()
            opened.append(one)
            ports.append(int(name[1]) if isinstance(name, tuple) else SSH)
    return opened, ports[0] if ports else SSH
