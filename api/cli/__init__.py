"""The command ``hypervisor``."""

import sys
from importlib import import_module

import click

from api.store.errors import StoreError
from hypervisor.errors import HypervisorError


class _Commands(click.Group):
    """Imports a command when it is asked for: each needs a part of the house only."""

    names = ("serve", "image", "apikey", "account", "lab", "methods", "coverage", "vm", "systemd")

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.names:
            return None
        command = getattr(import_module(f"api.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 - each module has one of its name
        return command


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="hosting-api")
def cli() -> None:
    """The Gandi Hosting API on your own machine, with real virtual machines.

    \b
    hypervisor serve                     answer the API, in a private lab where no libvirt runs
    hypervisor image build debian-12     make an image and offer it
    hypervisor lab enter -- ssh root@IP  run a command beside the virtual machines

    Settings: the file hypervisor.toml in the state folder (/var/lib/hypervisor), overridden by HYPERVISOR_*
    variables such as HYPERVISOR_LISTEN, HYPERVISOR_STATE, HYPERVISOR_API_KEY and HYPERVISOR_LIBVIRT_URI.
    """


def main() -> None:
    """Run the command; what a person can mend ends it with one line and status 1."""
    try:
        cli()
    except (HypervisorError, StoreError, OSError) as error:
        click.echo(f"hypervisor: {error}", err=True)
        sys.exit(getattr(error, "exit_status", 1))
