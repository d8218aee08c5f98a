"""Where the server listens: addresses, and the sockets made of them."""

import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BACKLOG = 1024
"""Connections that the kernel holds until they are accepted."""

_ANY_PORT = 65535


@dataclass(frozen=True, slots=True)
class Tcp:
    """A TCP port on one address; port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Unix:
    """A Unix socket at `path`, for its owner only (mode 0600)."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class Inherited:
    """A stream socket that is open already, as file descriptor `fd`; whoever opened it removes its path."""

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"


Listen = Tcp | Unix | Inherited


def parse_listen(address: str) -> Listen:
    """What `address` means: ``127.0.0.1:8080``, ``[::1]:8080``, ``unix:/path`` or ``fd://7``.

    Without a host (``:8080`` or ``8080``) it is the loopback address: to listen everywhere, ``0.0.0.0`` or
    ``[::]`` has to be said. Raises `ValueError` for anything else.
    """
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(f"{address!r}: the path of a Unix socket has to be absolute")
        return Unix(path)
    if address.startswith("fd://"):
        return Inherited(_number(address, address.removeprefix("fd://")))
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{address!r}: an IPv6 address stands in brackets, as in [::1]:8080")
    number = _number(address, port)
    if number > _ANY_PORT:
        raise ValueError(f"{address!r}: ports end at {_ANY_PORT}")
    return Tcp(host or "127.0.0.1", number)


def open_listener(address: str) -> socket.socket:
    """A listening socket at `address` (see `parse_listen`), to be handed on as ``fd://N``, even across
    namespaces.

    Raises `ValueError` for a wrong address, `OSError` when it cannot be had.
    """
    return listener(parse_listen(address))


def listener(listen: Listen) -> socket.socket:
    """A listening, not inheritable socket; raises `OSError` that names the address."""
    try:
        match listen:
            case Tcp(host, port):
                opened = _tcp(host, port)
            case Unix(path):
                opened = _unix(path)
            case Inherited(fd):
                opened = _inherited(fd)
        if opened.family != socket.AF_UNIX:
            # connections inherit it; without it an answer's second packet waits 40 ms for the first one's ACK
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {listen}: {error.strerror or error}") from error
    return opened


def remove(listen: Listen) -> None:
    """Remove what `listener` left in the file system."""
    if isinstance(listen, Unix):
        with suppress(FileNotFoundError):
            Path(listen.path).unlink()


def place(listen: Listen) -> str:
    """Where clients find what listens there, as ``HOST:PORT`` or ``unix:/PATH``."""
    if not isinstance(listen, Inherited):
        return str(listen)
    with socket.socket(fileno=os.dup(listen.fd)) as opened:
        name = opened.getsockname()
    return str(Tcp(*name[:2]) if isinstance(name, tuple) else Unix(name))


def _number(address: str, digits: str) -> int:
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{address!r} is not an address: HOST:PORT, unix:/PATH or fd://NUMBER")
    return int(digits)


def _tcp(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server((str(address[0]), port), family=family, backlog=BACKLOG)


def _unix(path: str) -> socket.socket:
    _remove_stale(path)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mask = os.umask(0o177)
        try:
            opened.bind(path)
        finally:
            os.umask(mask)
        opened.listen(BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def _remove_stale(path: str) -> None:
    """Remove the socket at `path` when nobody listens on it any more."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()


def _inherited(fd: int) -> socket.socket:
    opened = socket.socket(fileno=fd)
    if opened.type != socket.SOCK_STREAM or not opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        opened.detach()
        raise OSError(22, "not a listening stream socket")
    opened.set_inheritable(False)
    return opened
