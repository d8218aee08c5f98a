"""``hypervisor rebuild``: the records made anew, when their database is lost."""

from collections.abc import Iterable, Sequence, Sized
from pathlib import Path

import click
from sqlalchemy import make_url

from api.cli.host import reached
from api.cli.settings import load
from api.operations import survey
from api.operations.hosts import Hosts
from api.operations.rebuild import sources
from api.operations.rebuild.compose import Composer, Records
from api.operations.rebuild.sources import Sources
from api.operations.rebuild.write import check_empty, write
from api.service import make_folders, sole, write_secret
from api.settings import Settings
from api.store import revision
from api.store.content import new_datacenter
from api.store.database import Store
from api.store.models import Account, Datacenter
from hypervisor.errors import HypervisorError
from hypervisor.storage import pool


@click.command()
@click.option("--partial", is_flag=True, help="Do without the datacenters whose host does not answer.")
def rebuild(partial: bool) -> None:
    """Make the records anew from the domains, volumes and networks, when their database is lost.

    Ids stay the same, and none is used twice afterwards. API keys were kept as digests only: each account
    gets a new one. Refuses when there are records. The service must be stopped. docs/operations.md tells what
    is not restored.
    """
    settings = load()
    make_folders(settings)
    with sole(settings):
        store = Store(settings.database_url)
        place = make_url(settings.database_url).render_as_string(hide_password=True)
        check_empty(store, place)
        datacenters = [new_datacenter(one) for one in settings.datacenters]
        for number, one in enumerate(datacenters, start=1):
            one.id = number
        with reached(settings, datacenters) as hosts:
            found = _look(settings, hosts, datacenters)
            if found.away and not partial:
                raise click.ClickException(
                    f"{'; '.join(found.away)}. What is there would be lost for good: run this again when it "
                    "answers, or with --partial"
                )
            known = sources.read(found)
            _number(datacenters, known)
            records = Composer(found, known, settings.account).compose()
        if revision.current(store) != revision.HEAD:
            from api.store.schema import upgrade

            upgrade(store)
        aside = _put_aside(settings.state)
        keys = write(store, settings, datacenters, records, known.ids)
        store.close()
        files = _leave(settings, keys)
    _report(records, found.away, files, aside)


def _look(settings: Settings, hosts: Hosts, datacenters: Sequence[Datacenter]) -> survey.Survey:
    for one in datacenters:
        try:
            # a host that was set up anew may not know the pool any more, whose folder is there
            pool.ensure(hosts.handle(one.id, wait=5), one.pool, settings.pools / one.pool)
        except HypervisorError as error:
            click.echo(f"datacenter {one.dc_code}: {error}", err=True)
    return survey.take(hosts, datacenters)


def _number(datacenters: Iterable[Datacenter], known: Sources) -> None:
    """Give the datacenters the ids that they had; those that nothing knows of get new ones."""
    for number in known.datacenters.values():
        known.ids.saw("datacenter", number)
    for one in datacenters:
        one.id = known.datacenters.get(one.dc_code) or known.ids.new("datacenter")


def _put_aside(state: Path) -> list[Path]:
    """Keep the progress of lost operations from being taken for that of new ones."""
    moved = []
    for file in sorted(state.glob("workflows.db*")):
        if not file.name.endswith(".before-rebuild"):
            moved.append(file.rename(file.with_name(f"{file.name}.before-rebuild")))
    return moved


def _leave(settings: Settings, keys: dict[Account, str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for account, key in keys.items():
        first = not files
        files[account.handle] = settings.state / ("apikey" if first else f"apikey-{account.id}")
        write_secret(files[account.handle], key + "\n")
    return files


def _report(records: Records, away: Iterable[str], files: dict[str, Path], aside: Iterable[Path]) -> None:
    counts: dict[str, Sized] = {
        "accounts": records.accounts,
        "virtual machines": records.vms,
        "disks": [one for one in records.disks.values() if one.account_id and one.type == "data"],
        "snapshots": [one for one in records.disks.values() if one.type == "snapshot"],
        "interfaces": records.ifaces,
        "addresses": records.ips,
        "vlans": records.vlans,
        "images": records.images,
        "ssh keys": records.keys,
        "triggers": records.triggers,
    }
    click.echo("restored: " + ", ".join(f"{len(listed)} {what}" for what, listed in counts.items()))
    for text in (*away, *records.unknown):
        click.echo(f"not known: {text}")
    for handle, file in files.items():
        click.echo(f"the new API key of {handle} is in {file}")
    for file in aside:
        click.echo(f"the progress of lost operations is in {file}: remove it when nobody asks for it")
