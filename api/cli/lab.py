"""``hypervisor lab``: a private libvirt in namespaces."""

import sys
from pathlib import Path

import click

import hypervisor.lab

# the lab that `hypervisor serve` starts
SERVICE = "serve"


class _RunByDefault(click.Group):
    """``lab -- CMD`` is ``lab run -- CMD``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_RunByDefault)
def lab() -> None:
    """Run commands in a private libvirt, apart from this host's own, that ends without a trace.

    \b
    hypervisor lab -- CMD         start a lab around CMD
    hypervisor lab enter -- CMD   run CMD in a lab that runs
    """


@lab.command(context_settings={"ignore_unknown_options": True})
@click.option("--name", help="What `enter` finds it by.  [default: default, or the next free one]")
@click.option("--state", type=click.Path(path_type=Path), help="Keep libvirt's data in this folder.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(name: str | None, state: Path | None, command: tuple[str, ...]) -> None:
    """Start a lab, run COMMAND in it, end both."""
    sys.exit(hypervisor.lab.run(command, name=name, state=state))


@lab.command(context_settings={"ignore_unknown_options": True})
@click.option("--name", help="Which lab.  [default: the service's, else `default`]")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def enter(name: str | None, command: tuple[str, ...]) -> None:
    """Run COMMAND in a lab that runs."""
    if name is None:
        names = {one.name for one in hypervisor.lab.running()}
        name = SERVICE if SERVICE in names else "default"
    sys.exit(hypervisor.lab.enter(command, name=name))


@lab.command("list")
def list_() -> None:
    """List the labs that run."""
    for one in hypervisor.lab.running():
        click.echo(f"{one.name}\tpid {one.pid}\t{one.folder}")
