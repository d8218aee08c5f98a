"""``hypervisor coverage``: how much of the reference is there, by the method table and the tests."""

import sys
from pathlib import Path

import click

from api.coverage.claims import claimed_beyond
from api.coverage.page import page
from api.coverage.recording import Recording, RecordingError, committed, load

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--recording",
    "recordings",
    type=_FILE,
    multiple=True,
    metavar="FILE",
    help="Make the page from this recording instead of the committed one; several are laid together.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Print no page: say what the committed recording claims and FILE has not seen, with status 1.",
)
@click.option(
    "--merge", is_flag=True, help="Print no page: print the recordings laid together, as one recording."
)
def coverage(recordings: tuple[Path, ...], *, check: bool, merge: bool) -> None:
    """Print how much of the reference is done, differs or is absent, as Markdown.

    Nothing of it is typed: the reference is data, the method table says what is served, and a recording says
    what the tests saw. Every whole `make test` leaves its recording in .recording.json and fails when the
    committed one, api/coverage/recorded.json, claims more than that.

    \b
    make coverage                        renew recorded.json and docs/coverage.md from the last make test
    hypervisor coverage > docs/coverage.md
                                         renew the page alone: the table or the reference has changed
    hypervisor coverage --check --recording .recording.json
                                         what the last run did not see of what is claimed
    """
    if (check or merge) and not recordings:
        raise click.UsageError(
            "--check and --merge need a --recording FILE: make test leaves .recording.json"
        )
    try:
        given = Recording()
        for file in recordings:
            given.merge(load(file))
    except RecordingError as error:
        raise click.ClickException(str(error)) from error
    if check:
        beyond = claimed_beyond(committed(), given)
        for line in beyond:
            click.echo(f"claimed, but not seen: {line}")
        sys.exit(1 if beyond else 0)
    click.echo(given.dump() if merge else page(given if recordings else committed()), nl=False)
