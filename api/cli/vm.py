"""``hypervisor vm``: what only an administrator may do."""

import click

from api.cli.host import libvirt
from api.cli.settings import load
from api.cli.trigger import trigger
from api.service import open_store
from api.store.models import Vm
from hypervisor.domain import power

_LOCKABLE = ("running", "paused", "halted", "locked")


@click.group()
def vm() -> None:
    """Lock virtual machines and unlock them; watch what they use."""


vm.add_command(trigger)


@vm.command()
@click.argument("number", type=int, metavar="ID")
def lock(number: int) -> None:
    """Pause the virtual machine ID, and refuse its owner every change, until it is unlocked."""
    _switch(number, lock=True)
    click.echo(f"vm {number} is locked")


@vm.command()
@click.argument("number", type=int, metavar="ID")
def unlock(number: int) -> None:
    """Let the virtual machine ID go on where it was."""
    _switch(number, lock=False)
    click.echo(f"vm {number} is unlocked")


def _switch(number: int, *, lock: bool) -> None:
    settings = load()
    store = open_store(settings)
    with libvirt(settings, store) as hosts:
        with store.reading() as session:
            found = session.get(Vm, number)
        handle = None if found is None else hosts.handle(found.datacenter_id, wait=5)
        with store.writing() as session:
            found = session.get(Vm, number)
            if found is None or found.state not in _LOCKABLE:
                raise click.ClickException(f"vm {number} cannot be {'locked' if lock else 'unlocked'} now")
            if lock:
                found.state = "locked"
        if lock:
            power.suspend(handle, found.uuid)
            return
        state = power.resume(handle, found.uuid)
        with store.writing() as session:
            session.get_one(Vm, number).state = "running" if state is power.State.RUNNING else "halted"
