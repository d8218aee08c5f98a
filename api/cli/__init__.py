"""The command ``hypervisor``."""

import sys

import click

from api.cli.apikey import apikey
from api.cli.image import image
from api.cli.lab import lab
from api.cli.serve import serve
from api.operations.image import ImageExists
from api.store.content import SettingsConflict
from api.store.schema import SchemaError
from hypervisor.errors import HypervisorError
from hypervisor.lab import LabError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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


for command in (serve, image, apikey, lab):
    cli.add_command(command)


def main() -> None:
    """Run the command; what a person can mend ends it with one line and status 1."""
    try:
        cli()
    except (HypervisorError, ImageExists, SchemaError, SettingsConflict, LabError, OSError) as error:
        click.echo(f"hypervisor: {error}", err=True)
        sys.exit(1)
