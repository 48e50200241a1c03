"""A picture of spans: a row for each worker, a bar for each span. Needs matplotlib, the extra `plots`."""

import importlib.util
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shadowattn.runtime.tracing.trace import Span

MISSING = (
    "a picture of a trace needs matplotlib, which is not installed; install it with: pip install 'shadowattn[plots]'"
)
_DPI = 120
_WIDTH = 12.0  # inches
_AXIS = 10.5  # inches of it that the time axis has, about
_ROW = 0.5  # inches of a worker
_FRAME = 0.75  # inches of a panel's title and axis
_TITLE = 0.8  # inches of the picture's title and legend
_CHARACTER = 0.065  # inches, at _FONT points
_FONT = 7.5
_BAR = 0.8  # of a row
_KINDS = ("wait", "graph", "op")  # in the order of drawing
_COLOURS = {
    "estimate": "#4c78a8",
    "select": "#eeca3b",
    "attend": "#54a24b",
    "linear": "#b279a2",
    "append": "#9d755d",
    "wait": "#e4e4e4",
}
_OTHER_COLOURS = ("#f58518", "#72b7b2", "#e45756", "#ff9da6", "#bab0ac")
_DARK = ("estimate", "attend", "linear", "append")  # bars whose labels are white

Colours = Mapping[str, str]
Rows = Mapping[str, int]


def can_plot() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def draw_gantt(
    path: Path, title: str, measured: Sequence[Span], predicted: Sequence[Span] = (), simulated: bool = False
) -> None:
    """Writes a PNG file: the predicted spans above the measured ones on one time axis, each from its own first start.
    simulated: whether any of the times is, which the title then says. Raises ValueError where there are no spans."""
    panels = [(name, spans) for name, spans in (("predicted", predicted), ("measured", measured)) if spans]
    if not panels:
        raise ValueError("a picture needs at least one span, predicted or measured; none were recorded")
    from matplotlib.patches import Patch

    colours = _colours([span for _, spans in panels for span in spans])
    longest = max(_extent(spans)[1] for _, spans in panels)
    rows = [_rows(spans) for _, spans in panels]
    figure, axes = _figure([len(own) for own in rows])
    for axis, own, (name, spans) in zip(axes, rows, panels, strict=True):
        _draw_panel(axis, name, spans, own, colours)
        axis.set_xlim(0, 1.01e3 * longest or 1)
        _label_bars(axis, spans, own, _AXIS / (longest or 1))
    axes[-1].set_xlabel("time (ms)")
    figure.suptitle(f"SIMULATED: {title}" if simulated else title, fontsize=12)
    legend = [Patch(facecolor=colour, edgecolor="black", linewidth=0.4, label=name) for name, colour in colours.items()]
    figure.legend(handles=legend, loc="outside lower center", ncols=min(8, len(legend)), fontsize=9, frameon=False)
    figure.savefig(path, dpi=_DPI)


def _figure(rows: Sequence[int]) -> tuple[Any, list[Any]]:
    """A panel for each number of rows, its height in proportion. Made without pyplot: no window system is asked for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [_FRAME + _ROW * count for count in rows]
    figure = Figure(figsize=(_WIDTH, _TITLE + sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})
    return figure, list(axes[:, 0])


def _draw_panel(axis: Any, name: str, spans: Sequence[Span], rows: Rows, colours: Colours) -> None:
    first, length = _extent(spans)
    shared = _shared(spans)
    for kind in _KINDS:
        for (worker, stage), own in _by_bar(span for span in spans if span.kind == kind).items():
            half = kind == "op" and worker in shared
            above, height = (0.0, _BAR / 2) if half else (-_BAR / 2, _BAR)
            bars = [(1e3 * (span.start - first), 1e3 * (span.end - span.start)) for span in own]
            place = (rows[worker] + above, height)
            axis.broken_barh(bars, place, facecolors=colours[stage], edgecolors="black", linewidth=0.4)
    axis.set_yticks(list(rows.values()), list(rows))
    axis.set_ylim(len(rows) - 0.45, -0.55)
    axis.set_title(f"{name}: {1e3 * length:.4g} ms", fontsize=10, loc="left")
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)


def _label_bars(axis: Any, spans: Sequence[Span], rows: Rows, inches_per_second: float) -> None:
    """The head group on each bar that is wide enough for it: with its heads, with its index alone, or not.
    Where there are ops, they lie on the lower half of their graphs' bars, whose labels make room."""
    first, _ = _extent(spans)
    shared = _shared(spans)
    for span in spans:
        room = (span.end - span.start) * inches_per_second / _CHARACTER
        label = next((text for text in _labels(span) if len(text) <= room), None)
        if label is not None:
            middle = 1e3 * ((span.start + span.end) / 2 - first)
            colour = "white" if span.name in _DARK else "black"
            offset = (_BAR / 4 if span.kind == "op" else -_BAR / 4) if span.worker in shared else 0.0
            style = {"ha": "center", "va": "center", "fontsize": _FONT, "color": colour, "clip_on": True}
            axis.text(middle, rows[span.worker] + offset, label, **style)


def _shared(spans: Sequence[Span]) -> set[str]:
    """Workers whose graphs have ops inside: these get the lower half of the row."""
    graphs, ops = ({span.worker for span in spans if span.kind == kind} for kind in ("graph", "op"))
    return graphs & ops


def _labels(span: Span) -> list[str]:
    """From the longest to the shortest; none for a span that is of no group."""
    if "group" not in span.args:
        return []
    index = str(span.args["group"])
    heads = span.args.get("heads")
    return [f"{index}: h{_ranges(heads)}", index] if heads else [index]


def _ranges(heads: Sequence[int]) -> str:
    """0 1 2 6 -> 0-2,6."""
    runs = itertools.groupby(enumerate(heads), key=lambda item: item[1] - item[0])
    ends = [[head for _, head in run] for _, run in runs]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in ends)


def _by_bar(spans: Any) -> dict[tuple[str, str], list[Span]]:
    found: dict[tuple[str, str], list[Span]] = {}
    for span in spans:
        found.setdefault((span.worker, _stage(span)), []).append(span)
    return found


def _stage(span: Span) -> str:
    return "wait" if span.kind == "wait" else span.name


def _colours(spans: Sequence[Span]) -> dict[str, str]:
    """By stage: the fixed ones in their order, then others by name."""
    stages = {_stage(span) for span in spans}
    fixed = {stage: colour for stage, colour in _COLOURS.items() if stage in stages}
    others = sorted(stages - set(fixed))
    return fixed | dict(zip(others, itertools.cycle(_OTHER_COLOURS), strict=False))


def _rows(spans: Sequence[Span]) -> Rows:
    """By worker, from the top: those of estimates by name, then the CPU."""
    workers = sorted({span.worker for span in spans}, key=lambda name: (name == "cpu", name))
    return {worker: row for row, worker in enumerate(workers)}


def _extent(spans: Sequence[Span]) -> tuple[float, float]:
    """(first start, seconds from it to the last end)."""
    first = min(span.start for span in spans)
    return first, max(span.end for span in spans) - first
