"""A picture of one layer: a row for each worker, a bar for each stage of a head group. Needs matplotlib."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shadowattn.runtime.pipeline.schedule import Schedule, adjacent
from shadowattn.runtime.pipeline.trace import CPU, Span

MISSING = "a picture needs matplotlib, which is not installed; install it with: pip install matplotlib"
_WIDTH, _AXIS, _ROW, _FRAME, _TITLE = 12.0, 10.5, 0.5, 0.75, 0.8  # inches: picture, time axis, worker, panel, title
_CHARACTER, _FONT = 0.065, 7.5  # inches of a character, its points
_BAR = 0.8  # of a row
_COLOURS = {"wait": "#e4e4e4", "estimate": "#4c78a8", "attend": "#54a24b"}


def can_plot() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def predicted_spans(schedule: Schedule, npu: str) -> list[Span]:
    """A schedule as spans from 0 on. npu: what to call the estimates' worker."""
    found = []
    for index, (group, time) in enumerate(zip(schedule.groups, schedule.times, strict=True)):
        about = {"group": index, "heads": list(group.heads)}
        found.append(Span("graph", "estimate", npu, time.estimate_start, time.estimate_end, about))
        found.append(Span("op", "attend", CPU, time.attend_start, time.attend_end, about))
    return found


def draw_gantt(path: Path, title: str, predicted: Sequence[Span], measured: Sequence[Span]) -> None:
    """Writes a PNG file: the predicted spans above the measured ones on one time axis, each from its first start."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    panels = {"predicted": predicted, "measured": measured}
    workers = sorted({span.worker for span in (*predicted, *measured)}, key=lambda name: (name == CPU, name))
    rows = {worker: row for row, worker in enumerate(workers)}  # the CPU's below
    figure = Figure(figsize=(_WIDTH, _TITLE + len(panels) * (_FRAME + _ROW * len(rows))), layout="constrained")
    FigureCanvasAgg(figure)  # not pyplot: no window system is asked for
    axes = figure.subplots(len(panels), 1, sharex=True)
    longest = max(_extent(spans)[1] for spans in panels.values())
    for axis, (name, spans) in zip(axes, panels.items(), strict=True):
        _draw_panel(axis, name, spans, rows, _AXIS / longest)
        axis.set_xlim(0, 1.01e3 * longest)
    axes[-1].set_xlabel("time (ms)")
    figure.suptitle(title, fontsize=12)
    legend = [Patch(facecolor=colour, edgecolor="black", linewidth=0.4, label=n) for n, colour in _COLOURS.items()]
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), fontsize=9, frameon=False)
    figure.savefig(path, dpi=120)


def _draw_panel(axis: Any, name: str, spans: Sequence[Span], rows: Mapping[str, int], inches_per_second: float) -> None:
    first, length = _extent(spans)
    for span in sorted(spans, key=lambda span: span.kind != "wait"):  # waits lie below
        colour = _COLOURS.get("wait" if span.kind == "wait" else span.name)
        if colour is None:
            continue
        left, width = 1e3 * (span.start - first), 1e3 * span.seconds
        axis.barh(rows[span.worker], width, _BAR, left=left, color=colour, edgecolor="black", linewidth=0.4)
        room = span.seconds * inches_per_second / _CHARACTER
        label = next((text for text in _labels(span) if len(text) <= room), None)
        if label is not None:  # with its heads, with its index alone, or not
            style = {"ha": "center", "va": "center", "fontsize": _FONT, "color": "white", "clip_on": True}
            axis.text(left + width / 2, rows[span.worker], label, **style)
    axis.set_yticks(list(rows.values()), list(rows))
    axis.set_ylim(len(rows) - 0.45, -0.55)
    axis.set_title(f"{name}: {1e3 * length:.4g} ms", fontsize=10, loc="left")
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)


def _labels(span: Span) -> list[str]:
    """From the longest to the shortest; none for a span that is of no group."""
    if "group" not in span.args:
        return []
    heads = ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in adjacent(span.args["heads"]))
    return [f"{span.args['group']}: h{heads}", str(span.args["group"])]


def _extent(spans: Sequence[Span]) -> tuple[float, float]:
    """(first start, seconds from it to the last end)."""
    first = min(span.start for span in spans)
    return first, max(span.end for span in spans) - first
