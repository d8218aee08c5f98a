"""The service's own things: its state folder and the secrets in it, its addresses."""

import contextlib
import fcntl
import http.client
import json
import os
import shlex
import shutil
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

from api.settings import Settings
from api.wire.listen import Tcp, Unix, parse_listen
from api.wire.watch import NAME
from hypervisor.doctor import space
from hypervisor.doctor.finding import Finding, ok, problem, warning

_SECRETS = ("apikey", "*.key", "*_key", "*key*.pem", "*.db", "*.db-*", "*.db.*", "audit.log*")
_PATIENCE = 2.0  # seconds
_NO_ANSWER = (OSError, http.client.HTTPException, ValueError)


def runs(settings: Settings) -> bool:
    """Whether a service holds the state folder."""
    try:
        lock = (settings.state / "lock").open("rb")
    except OSError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def folder(settings: Settings) -> Iterator[Finding]:
    """The state folder's mode and its space, and the mode of the secrets in it."""
    state, subject = settings.state, "state folder"
    if not state.is_dir():
        yield warning(subject, f"there is no {state}: the first start makes it", "hypervisor serve")
        return
    mode = stat.S_IMODE(state.stat().st_mode)
    if mode & 0o022:
        said = f"others may write into {state} (mode {mode:04o})"
        yield problem(subject, said, shlex.join(["chmod", "go-w", str(state)]))
    elif not mode & 0o001 or not os.access(state, os.W_OK | os.X_OK):
        said = f"QEMU's user or the service cannot use {state} (mode {mode:04o})"
        yield problem(subject, said, shlex.join(["chmod", "0711", str(state)]))
    else:
        size, _, free = shutil.disk_usage(state)
        yield space.want(subject, state, size, free) or ok(subject, f"{state} has mode {mode:04o}")
    open_ones = [one for one in _secrets(settings) if _is_open(one)]
    if open_ones:
        yield problem(
            "secrets",
            f"others than the owner may read {', '.join(one.name for one in open_ones)}",
            " ".join(["chmod", "0600", *map(_with_its_own, open_ones)]),
        )
    else:
        yield ok("secrets", "keys and records are readable by their owner alone")


def _is_open(secret: Path) -> bool:
    try:
        return bool(stat.S_IMODE(secret.stat().st_mode) & 0o077)
    except FileNotFoundError:
        return False


def _with_its_own(secret: Path) -> str:
    # SQLite makes its files beside a database with the modes of that, at any moment
    return shlex.quote(str(secret)) + ("*" if secret.suffix == ".db" else "")


def _secrets(settings: Settings) -> list[Path]:
    found = {one for pattern in _SECRETS for one in settings.state.glob(pattern)}
    configuration = settings.state / "hypervisor.toml"
    with contextlib.suppress(OSError):
        if "api_key" in configuration.read_text(errors="replace"):
            found.add(configuration)
    return sorted(found)


def ports(settings: Settings) -> Iterator[Finding]:
    """Whether the API's addresses are free, or answered by the service."""
    running = runs(settings)
    for address in settings.listen.split():
        listen = parse_listen(address)
        subject = f"address {address}"
        if isinstance(listen, Tcp):
            yield _port(subject, listen, running)
        elif isinstance(listen, Unix):
            there = Path(listen.path).exists()
            yield ok(subject, "the service's socket is there" if there else "it is free")


def _port(subject: str, listen: Tcp, running: bool) -> Finding:
    if _is_free(listen):
        if running:
            return warning(
                subject,
                "the service runs, but not here: HYPERVISOR_LISTEN or --listen said otherwise at its start",
            )
        return ok(subject, "it is free for the service")
    if _is_ours(listen):
        return ok(subject, "the service answers")
    return problem(
        subject,
        "another program listens there: end it, or choose another port",
        f"HYPERVISOR_LISTEN={listen.host}:{_free_port()} hypervisor serve",
    )


def _is_free(listen: Tcp) -> bool:
    try:
        family, _, _, _, address = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)[0]
        socket.create_server((str(address[0]), listen.port), family=family).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _is_ours(listen: Tcp) -> bool:
    """Whether `/healthz` there is the service's, with or without TLS."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)  # noqa: S104 - compared, not bound
    context = ssl.create_default_context()
    # who it is matters here, not whether the way there is safe: nothing is sent
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for connection in (
        http.client.HTTPConnection(host, listen.port, timeout=_PATIENCE),
        http.client.HTTPSConnection(host, listen.port, timeout=_PATIENCE, context=context),
    ):
        with contextlib.closing(connection), contextlib.suppress(*_NO_ANSWER):
            connection.request("GET", "/healthz")
            answer = json.loads(connection.getresponse().read(1000))
            if isinstance(answer, dict) and answer.get("service") == NAME:
                return True
    return False
