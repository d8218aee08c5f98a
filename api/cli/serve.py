"""``hypervisor serve``: answer the API."""

import logging
import os
import sys

import click

import hypervisor.lab
from api.cli.image import LABELS, built
from api.cli.settings import load
from api.cli.welcome import welcome
from api.service import Service
from api.settings import Settings
from api.wire.server import open_listener, parse_listen
from api.wire.server import serve as serve_wsgi
from hypervisor.connection import answers

_IN_LAB = "HYPERVISOR_LAB_LISTEN"


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
@click.option("--setup", is_flag=True, help="First build the tiny image, when it is not there yet.")
def serve(listen: str | None, where: str, setup: bool) -> None:
    """Answer the API until Ctrl-C; virtual machines go on running on this host's libvirt, and end with a
    lab."""
    settings = load(listen=listen)
    if setup:
        built(settings, "tiny")
    if where == "lab" or (where == "auto" and not answers(settings.libvirt_uri)):
        sys.exit(_serve_in_lab(settings))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    service = Service(settings, LABELS)
    serve_wsgi(
        parse_listen(settings.listen),
        service.start,
        service.stop,
        lambda: welcome(settings),
        threads=settings.threads,
    )


def _serve_in_lab(settings: Settings) -> int:
    # the socket is opened out here, so the API answers on the host's own loopback
    listener = open_listener(settings.listen)
    os.set_inheritable(listener.fileno(), True)
    command = [
        sys.executable, "-m", "api.cli", "serve",
        "--listen", f"fd://{listener.fileno()}", "--libvirt", "system",
    ]  # fmt: skip
    address = settings.listen
    return hypervisor.lab.run(
        command,
        state=settings.state / "lab",
        pass_fds=[listener.fileno()],
        environment={**os.environ, _IN_LAB: address},
    )
