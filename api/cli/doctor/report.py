"""The findings on a terminal: aligned, one after the other, each with the command that mends it below."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hypervisor.doctor import Finding, Level

_MARKS = {Level.OK: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.PROBLEM: ("✗", "bold red")}


def show(console: Console, findings: Sequence[Finding]) -> None:
    """Print them, and a last line that says how many are what."""
    width = max((len(one.subject) for one in findings), default=0)
    for one in findings:
        mark, style = _MARKS[one.level]
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_column(width=1)
        row.add_column(width=width, no_wrap=True)
        row.add_column(overflow="fold")
        row.add_row(Text(mark, style=style), Text(one.subject, style="bold"), Text(_sentence(one.text)))
        console.print(row)
        if one.mend and one.level is not Level.OK:
            # never broken into lines here: it is there to be copied
            console.print(Text(f"   → {one.mend}", style="cyan"), soft_wrap=True)
    console.print()
    console.print(_summary(findings))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _summary(findings: Sequence[Finding]) -> Text:
    count = {level: sum(one.level is level for one in findings) for level in Level}
    parts = [f"{count[Level.OK]} ok"]
    for level, word in ((Level.WARNING, "warning"), (Level.PROBLEM, "problem")):
        parts.append(f"{count[level]} {word}{'' if count[level] == 1 else 's'}")
    worst = max((one.level for one in findings), key=list(Level).index, default=Level.OK)
    return Text(", ".join(parts), style=_MARKS[worst][1])
