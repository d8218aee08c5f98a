"""``hypervisor methods``: what the API answers, from the method table itself."""

import click

from api.methods import load
from api.methods.table import Method, every

_HEAD = """\
# Methods

Made by `hypervisor methods`, from the method table. The API key comes first in every call but those of
`system`, and is left out here; a parameter in brackets may be left out. Where the reference is silent or this
service differs, see [differences.md](differences.md). How something moves to another datacenter is in
[migration.md](migration.md).
"""


@click.command()
def methods() -> None:
    """Print the methods as Markdown: `hypervisor methods > docs/api.md`."""
    click.echo(page(), nl=False)


def page() -> str:
    """The page ``docs/api.md``."""
    load()
    lines = [_HEAD]
    namespace = ""
    for method in every():
        if (found := method.name.rpartition(".")[0]) != namespace:
            namespace = found
            lines.append(f"\n## {namespace}\n\n| method | returns | what it does |\n|---|---|---|\n")
        lines.append(f"| `{_signature(method)}` | {method.returns} | {' '.join(method.help.split())} |\n")
    return "".join(lines)


def _signature(method: Method) -> str:
    parameters = [
        f"{one.wire_type} {one.name}" if one.mandatory else f"[{one.wire_type} {one.name}]"
        for one in method.parameters
    ]
    return f"{method.name.rpartition('.')[2]}({', '.join(parameters)})"
