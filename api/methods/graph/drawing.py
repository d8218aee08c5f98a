"""Graphs as self-contained SVG, drawn with pygal: nothing in them runs, nothing is fetched."""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pygal
from lxml import etree
from pygal.style import Style

from api.methods.graph.links import Kind, Span
from api.store.statistics import Point

# pygal looks for plugins at every import in a way that Python has given up, and nobody plugs anything in here
sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, pygal.PluginImportFixer)]

_WIDTH, _HEIGHT = 900, 360
_FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"
_STYLE = Style(
    background="#ffffff",
    plot_background="#ffffff",
    foreground="#5f6b7a",
    foreground_strong="#1c2733",
    foreground_subtle="#dfe4ea",
    colors=("#1f77b4", "#e4572e"),
    font_family=_FONT,
    title_font_family=_FONT,
    label_font_family=_FONT,
    major_label_font_family=_FONT,
    legend_font_family=_FONT,
    no_data_font_family=_FONT,
    title_font_size=13,
    label_font_size=12,
    major_label_font_size=12,
    legend_font_size=13,
    no_data_font_size=18,
    opacity=".18",
    opacity_hover=".18",
    guide_stroke_dasharray="0",
    major_guide_stroke_dasharray="0",
    guide_stroke_color="#eef1f4",
    major_guide_stroke_color="#eef1f4",
    stroke_width="1.8",
)
_CSS = "inline:.plot_title{font-size:17px!important}"  # over the rule for the titles of the axes
_EMPTY = "There are no samples of this time yet."


@dataclass(frozen=True, slots=True)
class _Axis:
    """How a value of this kind is shown: multiplied by `factor`, in the unit that fits best, up to `least` or
    more."""

    name: str
    factor: float
    least: float
    units: Sequence[tuple[float, str]]
    lines: Mapping[str, str]


def _decimal(unit: str) -> tuple[tuple[float, str], ...]:
    return tuple((size, letter + unit) for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")))


_AXES = {
    Kind.VCPU: _Axis("Processor", 100, 100, ((1.0, "%"),), {"used": "used"}),
    Kind.VDI: _Axis("Disk", 1, 1e3, _decimal("B/s"), {"read": "read", "write": "written"}),
    Kind.VIF: _Axis("Network", 8, 1e3, _decimal("bit/s"), {"in": "received", "out": "sent"}),
}
_BACK = {Span.HOUR: "last hour", Span.DAY: "last day"}
_TICKS = {Span.HOUR: timedelta(minutes=10), Span.DAY: timedelta(hours=3)}


def draw(kind: Kind, span: Span, title: str, lines: Mapping[str, Iterable[Point]], end: float) -> bytes:
    """The SVG of `lines`, by direction, over the time that ends at `end` (seconds since 1970)."""
    axis = _AXES[kind]
    start = end - span.seconds
    points = {name: list(lines.get(direction, ())) for direction, name in axis.lines.items()}
    values = [axis.factor * one.value for line in points.values() for one in line]
    highest = max(axis.least, *values, 0)
    size, unit = next((one for one in axis.units if highest >= one[0]), axis.units[-1])
    ticks = _levels(highest / size)
    chart = pygal.XY(
        style=_STYLE, css=("file://style.css", "file://graph.css", _CSS), js=(), explicit_size=True,
        width=_WIDTH, height=_HEIGHT, margin=12, title=f"{title}, {_BACK[span]}", no_data_text=_EMPTY,
        x_title=_dates(start, end), y_title=f"{axis.name}, {unit}", xrange=(start, end), range=(0, ticks[-1]),
        show_dots=False, fill=True, allow_interruptions=True, value_formatter=_number,
        legend_at_bottom=True, legend_at_bottom_columns=len(points), legend_box_size=11, truncate_legend=-1,
    )  # fmt: skip
    chart.x_labels = [{"value": at, "label": label} for at, label in _times(start, end, _TICKS[span])]
    chart.y_labels = ticks
    chart.y_labels_major = ticks
    scale = axis.factor / size
    for name, line in points.items():
        drawn = [(at, None if value is None else value * scale) for at, value in _drawn(line, start)]
        chart.add(name, drawn or [(start, None), (end, None)])
    chart.add_xml_filter(_bare)
    svg: bytes = chart.render()
    return svg


def _drawn(line: Sequence[Point], start: float) -> Iterator[tuple[float, float | None]]:
    """Where the line goes: each point holds for its seconds, and where nothing is known there is a gap."""
    until = -math.inf
    for one in line:
        began = max(one.at - one.seconds, start)
        if began - until > max(1.0, one.seconds / 2):
            if until > 0:
                yield from ((until, 0), (until, None))
            yield from ((began, 0), (began, one.value))
        yield one.at, one.value
        until = one.at
    if until > 0:
        yield until, 0


def _levels(highest: float) -> list[float]:
    """Round levels from 0 to beyond `highest`."""
    wanted = highest / 4 or 0.25
    magnitude = 10.0 ** math.floor(math.log10(wanted))
    step = next(one * magnitude for one in (1, 2, 2.5, 5, 10) if one * magnitude >= wanted * 0.999)
    return [round(step * number, 6) for number in range(max(1, math.ceil(highest / step * 0.999)) + 1)]


def _number(value: Any) -> str:
    return f"{value:g}"


def _times(start: float, end: float, step: timedelta) -> Iterator[tuple[float, str]]:
    seconds = step.total_seconds()
    at = math.ceil(start / seconds) * seconds
    while at <= end:
        yield at, f"{datetime.fromtimestamp(at, UTC):%H:%M}"
        at += seconds


def _dates(start: float, end: float) -> str:
    first, last = (datetime.fromtimestamp(one, UTC) for one in (start, end))
    if first.date() == last.date():
        return f"{last:%-d %B %Y}, UTC"
    return f"{first:%-d %B} to {last:%-d %B %Y}, UTC"


def _bare(root: Any) -> Any:
    """Without pygal's script and its comments."""
    for node in [*root.iterfind(".//{*}script"), *root.iter(etree.Comment)]:
        node.getparent().remove(node)
    return root
