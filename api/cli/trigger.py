"""``hypervisor vm trigger``: watches on what virtual machines use."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy.orm import Session

from api.cli.settings import load
from api.operations.triggers import DATASOURCES, LONGEST, devices
from api.service import open_store
from api.store.models import Vm, VmTrigger

# one that is being created may vanish yet
_WATCHABLE = ("running", "paused", "halted", "locked")
_MOST = 2**31 - 1
_SECONDS = click.IntRange(0, LONGEST)
_KINDS = {"cpu": "processors", "disk": "disk", "iface": "interface"}


@click.group()
def trigger() -> None:
    """Watch what virtual machines use.

    A trigger is raised once a datasource stayed outside its bounds for a time, and comes down once it stayed
    within them for a time. hosting.vm.info shows the owner the triggers, and in the probe of the device the
    status "alert" as long as one is raised. A deleted virtual machine takes its triggers along.
    """


@trigger.command()
@click.argument("vm_id", type=int)
@click.argument("datasource", type=click.Choice(tuple(DATASOURCES)), metavar="DATASOURCE")
@click.option(
    "--device",
    "number",
    type=click.IntRange(0, _MOST),
    default=0,
    show_default=True,
    metavar="N",
    help="A disk's position or an interface's num, as hosting.vm.info shows them.",
)
@click.option(
    "--min", "lowest", type=click.IntRange(1, _MOST), metavar="N", help="The lowest value that is well."
)
@click.option(
    "--max", "highest", type=click.IntRange(0, _MOST - 1), metavar="N", help="The highest value that is well."
)
@click.option(
    "--duration",
    type=_SECONDS,
    default=300,
    show_default=True,
    metavar="S",
    help="Seconds outside that raise it.",
)
@click.option(
    "--recovery-duration",
    type=_SECONDS,
    default=300,
    show_default=True,
    metavar="S",
    help="Seconds within that bring it down.",
)
def add(
    vm_id: int,
    datasource: str,
    number: int,
    lowest: int | None,
    highest: int | None,
    duration: int,
    recovery_duration: int,
) -> None:
    """Make a trigger.

    It watches DATASOURCE of the virtual machine VM_ID; give --min, --max or both.

    \b
    DATASOURCE                            its values
    vcpu.time.used or .all                percent of one processor, all of them together
    vbd.bytes.read, .write or .all        bytes a second of a disk
    vbd.requests.read, .write or .all     requests a second of a disk
    vif.bytes.in, .out or .all            bytes a second of an interface
    vif.packets.in, .out or .all          packets a second of an interface

    \b
    hypervisor vm trigger add 3 vcpu.time.used --max 90
    hypervisor vm trigger add 3 vif.bytes.in --device 1 --max 1000000 --duration 600
    hypervisor vm trigger add 3 vbd.requests.all --min 1 --duration 3600 --recovery-duration 0

    A time shorter than that between two samples (the setting statistics.every) is over at the first of them.
    """
    if lowest is None and highest is None:
        raise click.ClickException("a trigger needs a bound: give --min, --max or both")
    if lowest is not None and highest is not None and lowest > highest:
        raise click.ClickException(f"no value is well: --min {lowest} is above --max {highest}")
    with _changing() as session:
        device_type = DATASOURCES[datasource]
        _check_device(_vm(session, vm_id), device_type, number)
        made = VmTrigger(
            vm_id=vm_id,
            datasource=datasource,
            device_type=device_type,
            device_number=number,
            min_value=lowest,
            max_value=highest,
            duration=duration,
            recovery_duration=recovery_duration,
        )
        session.add(made)
        session.flush()
        identifier = made.id
    click.echo(f"trigger {identifier} watches {datasource} of vm {vm_id}")


@trigger.command("list")
@click.argument("vm_id", type=int)
def list_(vm_id: int) -> None:
    """List the triggers of a virtual machine. Which are raised is in the probes of hosting.vm.info."""
    table = Table("id", "datasource", "device", "well", "duration", "recovery", "created")
    with closing(open_store(load())) as store, store.reading() as session:
        for one in _vm(session, vm_id).triggers:
            table.add_row(
                str(one.id), one.datasource, _device(one), _bounds(one), str(one.duration),
                str(one.recovery_duration), str(one.date_created),
            )  # fmt: skip
    if table.row_count:
        Console().print(table)
    else:
        click.echo(f"vm {vm_id} has no triggers: hypervisor vm trigger add --help says how to make one")


@trigger.command()
@click.argument("identifier", type=int, metavar="ID")
def delete(identifier: int) -> None:
    """Delete a trigger. An alert that it gave ends at once."""
    with _changing() as session:
        found = session.get(VmTrigger, identifier)
        if found is None:
            raise click.ClickException(
                f"there is no trigger {identifier}: see hypervisor vm trigger list VM_ID"
            )
        session.delete(found)
    click.echo(f"trigger {identifier} is deleted")


@contextmanager
def _changing() -> Iterator[Session]:
    with closing(open_store(load())) as store, store.writing() as session:
        yield session


def _vm(session: Session, vm_id: int) -> Vm:
    found = session.get(Vm, vm_id)
    if found is None:
        raise click.ClickException(f"there is no vm {vm_id}: hosting.vm.list shows its owner the ids")
    if found.state not in _WATCHABLE:
        then = "wait until it is created" if found.state == "being_created" else "name another one"
        raise click.ClickException(f"vm {vm_id} is {found.state} and has no triggers: {then}")
    return found


def _check_device(vm: Vm, device_type: str, number: int) -> None:
    numbers = sorted(devices(vm, device_type))
    if number not in numbers:
        there = f"use --device {' or '.join(map(str, numbers))}" if numbers else "attach one first"
        raise click.ClickException(
            f"vm {vm.id} has no {_KINDS[device_type]} with the number {number}: {there}"
        )


def _device(one: VmTrigger) -> str:
    return "processors" if one.device_type == "cpu" else f"{_KINDS[one.device_type]} {one.device_number}"


def _bounds(one: VmTrigger) -> str:
    if one.max_value is None:
        return f"from {one.min_value}"
    return f"to {one.max_value}" if one.min_value is None else f"{one.min_value} to {one.max_value}"
