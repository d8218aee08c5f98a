"""The findings on a terminal: one line for each, aligned, the commands that mend below."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hypervisor.doctor import Finding, Level

_MARKS = {Level.OK: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.PROBLEM: ("✗", "red bold")}


def show(console: Console, findings: Sequence[Finding]) -> None:
    """Print them, and a last line that says how many are what."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in findings:
        mark, style = _MARKS[one.level]
        text = Text(_sentence(one.text))
        if one.mend and one.level is not Level.OK:
            text.append(f"\n→ {one.mend}", style="cyan")
        table.add_row(Text(mark, style=style), Text(one.subject, style="bold"), text)
    console.print(table)
    console.print(_summary(findings))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _summary(findings: Sequence[Finding]) -> Text:
    count = {level: sum(one.level is level for one in findings) for level in Level}
    parts = [f"{count[Level.OK]} ok"]
    for level, word in ((Level.WARNING, "warning"), (Level.PROBLEM, "problem")):
        parts.append(f"{count[level]} {word}{'' if count[level] == 1 else 's'}")
    worst = max((one.level for one in findings), key=list(Level).index, default=Level.OK)
    return Text("\n" + ", ".join(parts), style=_MARKS[worst][1])
