"""``hypervisor reconcile``: differences between the records and what is really there."""

import json
import sys
from pathlib import Path

import click
from sqlalchemy import make_url

from api.cli.host import libvirt
from api.cli.settings import load
from api.operations.backend import Backend
from api.operations.console import Consoles
from api.operations.hosts import Hosts
from api.operations.reconcile.compare import differences
from api.operations.reconcile.finding import Finding
from api.service import accelerated, open_store, sole
from api.settings import Settings
from api.store.database import Store
from hypervisor.errors import HypervisorError


@click.command()
@click.option("--fix", is_flag=True, help="Mend what can be mended safely; the service must be stopped.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def reconcile(fix: bool, as_json: bool) -> None:
    """Compare the records with libvirt's domains, volumes and networks, and with the files.

    Each difference is told with what --fix would do about it. What may hold a guest's data is never removed,
    what is not the service's own is neither touched nor told of, and what an unfinished operation has is left
    to that. Datacenters whose host does not answer are left out. Ends with status 1 when differences remain.
    """
    settings = load()
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise click.ClickException(
            f"there are no records in {url.database}; when they are lost, hypervisor rebuild makes them anew"
        )
    with sole(settings, held=fix):
        store = open_store(settings)
        with libvirt(settings, store) as hosts:
            found, away = differences(store, hosts, settings.logs)
            mended = {one: _mend(settings, store, hosts, one) for one in found} if fix else {}
        store.close()
    if as_json:
        click.echo(json.dumps({"differences": [_shown(one, mended) for one in found], "left_out": away}))
    else:
        for one in found:
            click.echo(_line(one, mended))
        for text in away:
            click.echo(text, err=True)
        click.echo(f"{len(found)} differences" + (f", {_count(mended)} mended" if fix else ""), err=True)
    sys.exit(0 if len(found) == _count(mended) else 1)


def _mend(settings: Settings, store: Store, hosts: Hosts, finding: Finding) -> str | None:
    """Mend it; returns what went wrong, "" when nothing is done about it."""
    if finding.mend is None:
        return ""
    backend = Backend(
        store=store,
        hosts=hosts,
        patience=settings.patience,
        console_logs=settings.logs,
        consoles=Consoles(hosts, settings.logs),
        accelerated=accelerated(settings),
        max_vcpus=settings.limits.cores,
        migration=settings.migration,
    )
    try:
        finding.mend(backend)
    except HypervisorError as error:
        return str(error)
    return None


def _count(mended: dict[Finding, str | None]) -> int:
    return sum(error is None for error in mended.values())


def _shown(finding: Finding, mended: dict[Finding, str | None]) -> dict[str, object]:
    done = finding in mended and mended[finding] is None
    return {
        "about": finding.about,
        "text": finding.text,
        "fix": finding.remedy,
        "fixed": done,
        "error": mended.get(finding) or None,
    }


def _line(finding: Finding, mended: dict[Finding, str | None]) -> str:
    if finding not in mended or mended[finding] == "":
        return finding.sentence
    error = mended[finding]
    return f"{finding.text}: mended." if error is None else f"{finding.text}: not mended: {error}."
