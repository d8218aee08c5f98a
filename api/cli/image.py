"""``hypervisor image``: what virtual machines are made from."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import select

from api.cli.host import libvirt
from api.cli.settings import load
from api.operations.image import install
from api.service import make_folders, open_store
from api.settings import Settings
from api.store.models import Datacenter, Image
from hypervisor.image.build import RECIPES, build, recipe_digest
from hypervisor.image.mirror import Mirror
from hypervisor.image.progress import Progress as Report


@click.group()
def image() -> None:
    """Build, import and list images."""


@contextmanager
def progress_bar(title: str) -> Iterator[Report]:
    """A progress bar on a terminal, a line for each step elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        said = ""

        def report(step: str, fraction: float) -> None:  # noqa: ARG001 - it is a Progress
            nonlocal said
            if step != said:
                console.print(f"{title}: {step}", highlight=False)
                said = step

        yield report
        return
    columns = (TextColumn("{task.fields[title]}: {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=1.0, title=title)

        def update(step: str, fraction: float) -> None:
            progress.update(task, description=step, completed=fraction)

        yield update


def built(settings: Settings, name: str, mirror: str | None = None) -> Path:
    """The image `name`, built when its recipe was not built yet, in the folder of images."""
    make_folders(settings)
    kept = settings.images / f"{name}-{recipe_digest(name)}.qcow2"
    if not kept.exists():
        with progress_bar(f"image {name}") as report:
            build(name, kept, None if mirror is None else Mirror(mirror), report)
        link = settings.images / f"{name}.qcow2"
        new = link.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.symlink_to(kept.name)
        new.rename(link)
        for older in set(settings.images.glob(f"{name}-*.qcow2")) - {kept}:
            older.unlink()
    return kept


@image.command("build")
@click.argument("name", type=click.Choice(sorted(RECIPES)))
@click.option("--mirror", help="The Debian mirror to take packages from.  [default: this host's own]")
def build_(name: str, mirror: str | None) -> None:
    """Build an image from distribution packages. The service offers it from its next start."""
    click.echo(built(load(), name, mirror))


@image.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--label", "labels", multiple=True, required=True, help="Its name; more than one may be given.")
def import_(file: Path, labels: tuple[str, ...]) -> None:
    """Offer the disk image FILE (qcow2 or raw, such as a distribution's cloud image)."""
    settings = load()
    store = open_store(settings)
    with libvirt(settings, store) as hosts, progress_bar(labels[0]) as report:
        offered = install(store, hosts, file, labels, settings.images, report)
    click.echo(f"offered as image {', '.join(str(one) for one in offered)}")


@image.command("list")
def list_() -> None:
    """List the images and where they are offered."""
    settings = load()
    make_folders(settings)
    table = Table("image", "label", "datacenter", "disk", "size (MiB)")
    with open_store(settings).reading() as session:
        query = select(Image, Datacenter.dc_code).join(Datacenter, Datacenter.id == Image.datacenter_id)
        for one, code in session.execute(query.order_by(Image.id)):
            table.add_row(str(one.id), one.label, code, str(one.disk_id), str(one.disk.size))
    Console().print(table)
