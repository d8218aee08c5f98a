"""``hypervisor systemd``: run by the service manager, from the boot on."""

import os
import sys
from importlib.resources import files
from pathlib import Path

import click

from api.cli.settings import load
from api.service import make_folders
from api.settings import Settings
from api.wire.listen import Inherited, Unix, parse_listen

UNITS = ("hypervisor.service", "hypervisor.socket", "hypervisor-console.socket")
"""The units, files of this package with places to fill in."""

_NEXT = """\
Next:
  systemctl daemon-reload
  systemctl enable --now {sockets} hypervisor.service
  journalctl --unit hypervisor --follow"""


@click.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/etc/systemd/system"),
    show_default=True,
    help="Where the units go.",
)
def systemd(folder: Path) -> None:
    """Write systemd's units for this installation and its settings, and print what to do next.

    The sockets listen where the settings say now: after a change of `listen` or `console_listen`, again. Of
    the variables only HYPERVISOR_STATE and HYPERVISOR_CONFIG are handed on: the others belong in the file.
    """
    settings = load()
    make_folders(settings)
    folder.mkdir(parents=True, exist_ok=True)
    written = units(settings)
    for name, text in written.items():
        (folder / name).write_text(text)
        click.echo(f"wrote {folder / name}")
    click.echo(_NEXT.format(sockets=" ".join(name for name in written if name.endswith(".socket"))))


def units(settings: Settings) -> dict[str, str]:
    """The units by name; raises `click.ClickException` for what systemd cannot listen at."""
    command = Path(sys.executable).with_name("hypervisor")
    told = {"HYPERVISOR_STATE": str(settings.state)}
    if "HYPERVISOR_CONFIG" in os.environ:
        told["HYPERVISOR_CONFIG"] = str(Path(os.environ["HYPERVISOR_CONFIG"]).absolute())
    filled = {
        "@ENVIRONMENT@": "\n".join(f"Environment={name}={value}" for name, value in told.items()),
        "@COMMAND@": str(command),
        "@STATE@": str(settings.state),
        "@LISTEN@": _stream(settings.listen),
        "@CONSOLE@": _stream(settings.console_listen),
    }
    found = {}
    for name in UNITS:
        text = (files("api") / "systemd" / name).read_text()
        for place, value in filled.items():
            text = text.replace(place, value)
        found[name] = text
    return found


def _stream(addresses: str) -> str:
    """`addresses` as ``ListenStream=`` has them, one for each line."""
    streams = []
    for listen in map(parse_listen, addresses.split()):
        if isinstance(listen, Inherited):
            raise click.ClickException(f"{listen} is no address: set listen and console_listen to HOST:PORT")
        streams.append(listen.path if isinstance(listen, Unix) else str(listen))
    return "\nListenStream=".join(streams)
