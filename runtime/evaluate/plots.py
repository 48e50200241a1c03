"""Pictures of an evaluation's report. Needs matplotlib, the extra `plots`."""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shadowattn.runtime.evaluate.colors import mode_color
from shadowattn.runtime.evaluate.heads import MEASURES

Row = Mapping[str, Any]
MISSING = "--plots needs matplotlib, which is not installed; install it with: pip install matplotlib"
_DPI = 120
_PANEL = (5.2, 4.2)  # inches
_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_CHANGES = (-5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # %
_MOST_LINEAR = 10  # %
_BASES = {"dense": "dense float attention", "float model": "the float32 model"}
_MARKERS = "osD^vPX*"
_TITLES = {
    "kept": "share of positions read",
    "mass": "softmax mass of what is read",
    "recall": "share of the true top-k found",
}


def can_plot() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Writes the PNG files that there are rows for, and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    perplexity = [row for row in rows if row["task"] == "perplexity"]
    for window in dict.fromkeys(row["window"] for row in perplexity):
        own = [row for row in perplexity if row["window"] == window]
        found.append(_draw_loss(own, folder / f"loss_{window}.png"))
    for row in rows:
        if row["task"] == "heads" and row["mode"] != "dense":
            found.append(_draw_heads(row, folder / f"heads_{_slug(row)}.png"))
    return found


def _draw_loss(rows: Sequence[Row], path: Path) -> Path:
    """Change of perplexity against the achieved keep_ratio, a panel per text."""
    texts = list(dict.fromkeys(row["text"] for row in rows))
    base = next(row["mode"] for row in rows if row["base"])
    rows = [row for row in rows if not row["base"]]
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    figure, panels = _figure(len(texts))
    for panel, text in zip(panels, texts, strict=True):
        for index, mode in enumerate(modes):
            _draw_mode(panel, [row for row in rows if (row["text"], row["mode"]) == (text, mode)], mode, index)
        _label_loss(panel, text, min(row["mean_keep_ratio"] for row in rows))
    _scale_loss(panels, [row["change_percent"] for row in rows])
    panels[-1].legend(fontsize=8)
    figure.suptitle(
        f"Perplexity against {_BASES.get(base, base)}, windows of {rows[0]['window']:,} tokens", fontsize=11
    )
    return _save(figure, path)


def _figure(count: int) -> tuple[Any, list[Any]]:
    """Made without pyplot, so that no window system is asked for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_PANEL[0] * count, _PANEL[1]), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _draw_mode(panel: Any, rows: Sequence[Row], mode: str, index: int) -> None:
    own = sorted(rows, key=lambda row: row["mean_keep_ratio"])
    x, y, errors = ([row[name] for row in own] for name in ("mean_keep_ratio", "change_percent", "loss_change_stderr"))
    style = {"marker": _MARKERS[index % len(_MARKERS)], "markersize": 5, "linewidth": 1.2, "capsize": 2}
    panel.errorbar(x, y, yerr=errors, label=mode, color=mode_color(mode), **style)


def _label_loss(panel: Any, text: str, lowest: float) -> None:
    panel.set_xscale("log")
    panel.set_xlim(0.8 * lowest, 1.25)
    panel.set_xticks([ratio for ratio in _TICKS if ratio >= 0.8 * lowest])
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter("")
    panel.set_xlabel("achieved mean keep_ratio")
    panel.set_ylabel("change of perplexity (%)")
    panel.set_title(text, fontsize=10)
    panel.axhline(0, color="0.5", linewidth=0.8)
    panel.grid(alpha=0.3, which="both")


def _scale_loss(panels: Sequence[Any], changes: Sequence[float]) -> None:
    """Where a mode loses many times what others do, the axis is linear near zero and logarithmic beyond."""
    lowest, highest = min(changes), max(changes)
    if max(highest, -lowest) <= _MOST_LINEAR:
        return
    for panel in panels:
        panel.set_yscale("symlog", linthresh=1)
        panel.set_ylim(min(-0.3, 1.4 * lowest), 1.4 * highest)
        panel.set_yticks([change for change in _CHANGES if 1.4 * lowest <= change <= 1.4 * highest])
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("")


def _draw_heads(row: Row, path: Path) -> Path:
    """A map of layers x heads for each measure."""
    figure, panels = _figure(len(MEASURES))
    for panel, name in zip(panels, MEASURES, strict=True):
        image = panel.imshow(row[name], aspect="auto", interpolation="nearest", cmap="viridis")
        panel.set_xlabel("head")
        panel.set_ylabel("layer")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.yaxis.get_major_locator().set_params(integer=True)
        panel.set_title(f"{_TITLES[name]}\nmean {row[f'{name}_mean']:.3f}, least {row[f'{name}_min']:.3f}", fontsize=10)
        figure.colorbar(image, ax=panel)
    ratio = "" if row["keep_ratio"] is None else f", keep_ratio {row['keep_ratio']}"
    achieved = f"achieved {row['mean_keep_ratio']:.3f}"
    figure.suptitle(f"{row['mode']}{ratio} ({achieved}), {row['text']}", fontsize=11)
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=_DPI)
    return path


def _slug(row: Row) -> str:
    parts = [row["text"], row["mode"], "" if row["keep_ratio"] is None else str(row["keep_ratio"])]
    return re.sub(r"[^\w.]+", "_", "_".join(filter(None, parts)))
