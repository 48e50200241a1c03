"""Pictures of results. Needs matplotlib, the extra `plots`."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from colors import color_of

Result = dict[str, Any]
Series = dict[str, list[tuple[float, float]]]  # label -> (tokens, milliseconds or seconds), ascending
_DPI = 120
_STAGES = {"append": "#8da0cb", "estimate": "#1f4fb4", "select": "#ffb000", "attend": "#2a9d6f", "other": "#b0b0b0"}
_MARKERS = "os^Dv*PX<>"
_SLOPE_FROM = 2048  # below it constant costs bend the line


def draw(result: Result, document: Path) -> list[Path]:
    """Writes the PNG files that this result gives rise to, named after the document that shows them."""
    found = []
    for name, picture in _PICTURES.get(result["suite"], {}).items():
        path = document.with_name(f"{document.stem}_{name}.png")
        if (made := picture(result, path)) is not None:
            found.append(made)
    return found


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Least-squares exponent p of time ~ length^p from 2,048 on, or over all points where fewer than two are longer."""
    long = [point for point in points if point[0] >= _SLOPE_FROM]
    used = [(math.log(x), math.log(y)) for x, y in (long if len(long) > 1 else points)]
    if len(used) < 2:
        return None
    mean_x, mean_y = (sum(side) / len(used) for side in zip(*used, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in used)
    return sum((x - mean_x) * (y - mean_y) for x, y in used) / spread


def decades(values: Sequence[float]) -> tuple[float, float]:
    """Powers of ten around the values: pictures of one kind then mostly have the same scale."""
    return 10.0 ** math.floor(math.log10(min(values))), 10.0 ** math.ceil(math.log10(max(values)))


def where(result: Result) -> str:
    """Model and machine, for a title."""
    threads = f"{result['num_threads']} thread{'s' if result['num_threads'] > 1 else ''}"
    return f"{result['model']}\n{result['machine']['processor']}, ISA {result['isa']}, {threads}"


def _attention(phase: str, what: str) -> Callable[[Result, Path], Path | None]:
    def picture(result: Result, path: Path) -> Path | None:
        ours, theirs = Series(), Series()
        for row in result["rows"]:
            if row["phase"] == phase:
                series = ours if row["ours"] else theirs
                series.setdefault(row["kernel"], []).append((row["length"], row["ms"]))
        return _lines(ours, theirs, (f"{what}: {where(result)}", "rows L", "time, ms"), path)

    return picture


def _ttft(result: Result, path: Path) -> Path | None:
    ours, theirs = Series(), Series()
    systems = {system["name"]: system for system in result["systems"]}
    for row in result["rows"]:
        series = ours if row["system"].startswith("shadowattn") else theirs
        series.setdefault(systems[row["system"]]["title"], []).append((row["prompt_tokens"], row["ttft_s"]))
    words = (f"Time to first token: {where(result)}", "prompt, tokens", "time to first token, s")
    return _lines(ours, theirs, words, path)


def _lines(ours: Series, theirs: Series, words: tuple[str, str, str], path: Path) -> Path | None:
    """words: title, label of x, label of y. Ours solid, others dashed; slopes in the legend."""
    if not ours and not theirs:
        return None
    figure, [panel] = figure_of(1, (8.4, 6.0))
    for series, style in ((ours, "-"), (theirs, "--")):
        for index, (label, points) in enumerate(series.items()):
            exponent = slope(points)
            name = label if exponent is None else f"{label}: L^{exponent:.2f}"
            x, y = zip(*points, strict=True)
            look = {"linestyle": style, "marker": _MARKERS[index % len(_MARKERS)], "linewidth": 1.5, "markersize": 5}
            panel.plot(x, y, label=name, color=color_of(label), **look)
    lengths = sorted({x for series in (ours, theirs) for points in series.values() for x, _ in points})
    panel.set_xscale("log", base=2)
    panel.set_xticks(lengths, [f"{length:,}" for length in lengths])
    panel.set_yscale("log")
    panel.set_ylim(decades([y for series in (ours, theirs) for points in series.values() for _, y in points]))
    panel.yaxis.set_major_formatter("{x:g}")
    note = f"L^p: fitted from {_SLOPE_FROM:,} on, where there are two such lengths"
    figure.suptitle(f"{words[0]}\n{note}", fontsize=10)  # over the whole width: of the panel it would be cut off
    panel.set_xlabel(words[1])
    panel.set_ylabel(words[2])
    panel.grid(alpha=0.3, which="both")
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    return save(figure, path)


def _stages(result: Result, path: Path) -> Path | None:
    """A panel per mode: nanoseconds per (query head, query, key) that dense causal attention scores, by stage."""
    rows = [row for row in result["rows"] if row["phase"] == "prefill" and "stages_ms" in row]
    if not rows:
        return None
    kernels = list(dict.fromkeys(row["kernel"] for row in rows))
    figure, panels = figure_of(len(kernels), (3.4, 4.4))
    for panel, kernel in zip(panels, kernels, strict=True):
        own = [row for row in rows if row["kernel"] == kernel]
        below = [0.0] * len(own)
        for stage, color in _STAGES.items():
            heights = [_stage_ms(row, stage) * 1e6 / _pairs(result, row) for row in own]
            panel.bar([f"{row['length']:,}" for row in own], heights, bottom=below, label=stage, color=color)
            below = [bottom + height for bottom, height in zip(below, heights, strict=True)]
        panel.set_title(kernel, fontsize=10)
        panel.set_xlabel("rows L")
        panel.tick_params(axis="x", labelrotation=60)
        panel.grid(alpha=0.3, axis="y")
    panels[0].set_ylabel("ns per causal (head, query, key)")
    figure.suptitle(f"Stages of our op, prefill: {where(result)}", fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=len(labels))
    return save(figure, path)


def _stage_ms(row: Result, stage: str) -> float:
    """What no stage counts is `other`; noise may make it negative, which no bar can show."""
    stages = row["stages_ms"]
    return float(stages[stage]) if stage in stages else max(0.0, row["ms"] - sum(stages.values()))


def _pairs(result: Result, row: Result) -> float:
    return float(result["shape"]["num_heads"] * row["length"] ** 2 / 2)


def figure_of(count: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    """`count` panels of that size in inches, with one y axis; made without pyplot, which would ask for a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * count, size[1]), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=True)[0])


def save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    return path


_PICTURES: dict[str, dict[str, Callable[[Result, Path], Path | None]]] = {
    "attention_speed": {
        "attention_prefill": _attention("prefill", "Attention alone, a whole prompt"),
        "attention_decode": _attention("decode", "Attention alone, one row at length L"),
        "attention_stages": _stages,
    },
    "end_to_end": {"ttft": _ttft},
}
