"""``hypervisor serve``: answer the API."""

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

import hypervisor.lab
from api.cli.https import tls
from api.cli.lab import SERVICE
from api.cli.settings import load
from api.cli.welcome import announce, welcome
from api.observe.logs import configure
from api.settings import Settings
from api.wire.console_socket import open_console
from api.wire.listen import Tcp, open_listener, parse_listen, place
from api.wire.server import serve as serve_wsgi
from api.wire.systemd import Manager

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_IN_LAB = "HYPERVISOR_LAB_LISTEN"
# the name of their sockets, as the units give it
_CONSOLE = "console"
_FILE = click.Path(dir_okay=False, resolve_path=True, path_type=Path)


@click.command()
@click.option("--listen", help="HOST:PORT, unix:/PATH or fd://N.  [default: 127.0.0.1:8080]")
@click.option(
    "--libvirt",
    "where",
    type=click.Choice(["auto", "system", "lab"]),
    default="auto",
    show_default=True,
    help="This host's libvirt, a private one in a lab, or the lab where the host's does not answer.",
)
@click.option("--tls-cert", type=_FILE, help="Answer by HTTPS with this certificate (PEM).")
@click.option("--tls-key", type=_FILE, help="Its key (PEM, without a password).")
@click.option("--tls-self-signed", is_flag=True, help="Answer by HTTPS with a certificate made for it.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="Log lines for people, or one JSON object on each.  [default: text]",
)
@click.option("--setup", is_flag=True, help="First build the tiny image, when it is not there yet.")
def serve(
    listen: str | None,
    where: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_self_signed: bool,
    log_format: str | None,
    setup: bool,
) -> None:
    """Answer the API until Ctrl-C; virtual machines go on running on this host's libvirt, and end with a
    lab."""
    chosen = {"cert": tls_cert, "key": tls_key, "self_signed": tls_self_signed or None}
    https = {name: value for name, value in chosen.items() if value is not None}
    manager = Manager.found()
    # sockets that the service manager holds take the place of the settings'
    sockets = manager.others(_CONSOLE), manager.sockets(_CONSOLE)
    passed = [" ".join(str(one) for one in some) or None for some in sockets]
    settings = load(
        listen=passed[0] or listen, console_listen=passed[1], tls=https or None, log_format=log_format
    )
    if setup:
        from api.cli.image import built

        built(settings, "tiny")
    here = any(one.libvirt_uri is None for one in settings.datacenters)
    if where == "lab" or (where == "auto" and here and not _answers(settings.libvirt_uri)):
        sys.exit(_serve_in_lab(settings))
    configure(settings.log_format)
    running = ExitStack()
    alive: list[Callable[[], bool]] = []

    def start() -> "WSGIApplication":
        # what is made here lives as long as the service: not to be looked through for garbage, now or later
        gc.disable()
        # only the worker needs the house: the process that watches over it stays small
        from api.service import Service

        service = Service(settings)
        running.callback(service.stop)
        alive.append(service.is_alive)
        application = service.start()
        gc.freeze()
        gc.enable()
        return application

    gc.freeze()
    # a call takes a millisecond or two: it does not wait for the five that Python gives a thread at work
    sys.setswitchinterval(0.0005)
    places = [parse_listen(one) for one in settings.listen.split()]
    # what a service prints is kept in the journal, where the key has no place
    shown = partial(announce if manager.listens else welcome, settings, place(places[-1]))
    serve_wsgi(
        places,
        start,
        running.close,
        shown,
        settings.threads,
        tls(settings),
        manager,
        lambda: all(one() for one in alive),
    )


def _answers(uri: str) -> bool:
    # in a process of its own: libvirt's threads would be missing after the server's fork
    process = multiprocessing.get_context("spawn").Process(target=_exit_with_answer, args=(uri,))
    process.start()
    process.join()
    return process.exitcode == 0


def _exit_with_answer(uri: str) -> None:
    from hypervisor.connection import answers

    sys.exit(0 if answers(uri) else 1)


def _serve_in_lab(settings: Settings) -> int:
    # opened out here, the sockets are on the host's own loopback; at the same addresses inside a client
    # finds the machines too
    api = open_listener(settings.listen)
    consoles, _ = open_console(settings.console_listen)
    passed = [one.fileno() for one in (api, *consoles)]
    for one in passed:
        os.set_inheritable(one, True)
    command = [
        sys.executable, "-m", "api.cli", "serve",
        "--listen", _inside(settings.listen, passed[:1]), "--libvirt", "system",
        "--log-format", settings.log_format,
    ]  # fmt: skip
    return hypervisor.lab.run(
        command,
        name=SERVICE,
        state=settings.state / "lab",
        pass_fds=passed,
        environment={
            **os.environ,
            _IN_LAB: place(parse_listen(settings.listen)),
            "HYPERVISOR_TLS": settings.tls.model_dump_json(),
            "HYPERVISOR_CONSOLE_LISTEN": _inside(settings.console_listen, passed[1:]),
        },
    )


def _inside(address: str, passed: list[int]) -> str:
    """Where the service in the lab listens: at the sockets from outside, and at `address` itself."""
    sockets = [f"fd://{fd}" for fd in passed]
    return " ".join(sockets + ([address] if isinstance(parse_listen(address), Tcp) else []))
