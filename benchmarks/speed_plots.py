"""Pictures of the suite's results. Needs matplotlib, the extra `plots`."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]
Series = dict[str, list[tuple[float, float]]]  # label -> (tokens, milliseconds or seconds), ascending
_DPI = 120
_STAGES = ("append", "estimate", "select", "attend", "other")
_MARKERS = "os^Dv*PX<>"
_SLOPE_FROM = 2048  # below it constant costs bend the line


def draw(result: Result, folder: Path) -> list[Path]:
    """Writes the PNG files that this result gives rise to, and returns their paths."""
    return [path for picture in _PICTURES.get(result["suite"], ()) if (path := picture(result, folder)) is not None]


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Least-squares exponent p of time ~ length^p from 2,048 on, or over all points where fewer than two are longer."""
    long = [point for point in points if point[0] >= _SLOPE_FROM]
    used = [(math.log(x), math.log(y)) for x, y in (long if len(long) > 1 else points)]
    if len(used) < 2:
        return None
    mean_x, mean_y = (sum(side) / len(used) for side in zip(*used, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in used)
    return sum((x - mean_x) * (y - mean_y) for x, y in used) / spread


def _attention(phase: str) -> Callable[[Result, Path], Path | None]:
    def picture(result: Result, folder: Path) -> Path | None:
        ours, theirs = Series(), Series()
        for row in result["rows"]:
            if row["phase"] == phase:
                series = ours if row["ours"] else theirs
                series.setdefault(row["kernel"], []).append((row["length"], row["ms"]))
        title = f"Attention alone, {phase}, {result['num_threads']} thread(s), ISA {result['isa']}"
        return _lines(ours, theirs, (title, "rows L", "ms"), folder / f"attention_{phase}.png")

    return picture


def _ttft(result: Result, folder: Path) -> Path | None:
    ours, theirs = Series(), Series()
    for row in result["rows"]:
        ours.setdefault(row["setting"], []).append((row["prompt_tokens"], row["ttft_s"]))
    for row in result["peers"]:
        label = f"{row['peer']} {row['precision']} (machine: {row['machine'][:24]})"
        theirs.setdefault(label, []).append((row["len"], row["ttft_s"]))
    title = f"{result['model']}, {result['num_threads']} thread(s), ISA {result['isa']}"
    return _lines(ours, theirs, (title, "prompt tokens", "TTFT, s"), folder / "ttft.png")


def _lines(ours: Series, theirs: Series, words: tuple[str, str, str], path: Path) -> Path | None:
    """words: title, label of x, label of y. Ours solid, others dashed; slopes in the legend."""
    if not ours:
        return None
    figure, [panel] = figure_of(1, (8.4, 5.2))
    for series, style in ((ours, "-"), (theirs, "--")):
        for index, (label, points) in enumerate(series.items()):
            exponent = slope(points)
            name = label if exponent is None else f"{label}: L^{exponent:.2f}"
            x, y = zip(*points, strict=True)
            look = {"linestyle": style, "marker": _MARKERS[index % len(_MARKERS)], "linewidth": 1.3, "markersize": 4}
            panel.plot(x, y, label=name, **look)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.xaxis.set_major_formatter("{x:g}")
    note = f"L^p: fitted from {_SLOPE_FROM:,} on, where there are two such lengths"
    figure.suptitle(f"{words[0]}\n{note}", fontsize=10)  # over the whole width: of the panel it would be cut off
    panel.set_xlabel(words[1])
    panel.set_ylabel(words[2])
    panel.grid(alpha=0.3, which="both")
    figure.legend(fontsize=7, loc="outside lower center", ncols=2)
    return save(figure, path)


def _stages(result: Result, folder: Path) -> Path | None:
    """A panel per mode: nanoseconds per (query head, query, key) that dense causal attention scores, by stage."""
    rows = [row for row in result["rows"] if row["phase"] == "prefill" and "stages_ms" in row]
    if not rows:
        return None
    kernels = list(dict.fromkeys(row["kernel"] for row in rows))
    figure, panels = figure_of(len(kernels), (3.4, 3.8))
    for panel, kernel in zip(panels, kernels, strict=True):
        own = [row for row in rows if row["kernel"] == kernel]
        below = [0.0] * len(own)
        for stage in _STAGES:
            heights = [_stage_ms(row, stage) * 1e6 / _pairs(result, row) for row in own]
            panel.bar([str(row["length"]) for row in own], heights, bottom=below, label=stage)
            below = [bottom + height for bottom, height in zip(below, heights, strict=True)]
        panel.set_title(kernel, fontsize=10)
        panel.set_xlabel("rows L")
        panel.tick_params(axis="x", labelrotation=60)
        panel.grid(alpha=0.3, axis="y")
    panels[0].set_ylabel("ns per causal (head, query, key)")
    panels[-1].legend(fontsize=8)
    return save(figure, folder / "attention_stages.png")


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
    figure.savefig(path, dpi=_DPI)
    return path


_PICTURES: dict[str, tuple[Callable[[Result, Path], Path | None], ...]] = {
    "attention_speed": (_attention("prefill"), _attention("decode"), _stages),
    "end_to_end": (_ttft,),
}
