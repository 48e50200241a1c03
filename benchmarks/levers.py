"""Time and accuracy of every setting together: which are worth having, as a table and a picture.

python benchmarks/levers.py --length=2048 --speed=build/bench/levers.json
    --accuracy build/accuracy/perplexity_2048_*.json [--out=build/bench/levers_2048]

Time is attention alone (attention_speed.py --modes=... --json=...), accuracy the mean change of perplexity over the
texts (accuracy.py): both of the same length, of the same bundle or another of the same model. A setting is on the front
if no other is both as fast and as accurate.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speed_plots import figure_of, save

from shadowattn.runtime.measure.table import format_markdown

_OURS = "ours, "


@dataclass(frozen=True)
class Setting:
    """name: mode and keep_ratio. ms: of attention alone; gain: times as fast as the fastest dense kernel of others.
    change: of perplexity, percent, mean over the texts; worst: of one text."""

    name: str
    ms: float
    gain: float
    keep_ratio: float
    change: float
    worst: float


def join(speed: Mapping[str, Any], accuracy: Sequence[Mapping[str, Any]], length: int) -> list[Setting]:
    """Settings that both know, fastest first. Raises ValueError where there are none."""
    changes: dict[str, list[float]] = {}
    for report in accuracy:
        for row in report["rows"]:
            if row["task"] == "perplexity" and row["window"] == length and "change_percent" in row:
                keep = "" if row["keep_ratio"] is None else f" {row['keep_ratio']}"
                changes.setdefault(f"{row['mode']}{keep}", []).append(row["change_percent"])
    found = []
    for row in speed["rows"]:
        name = row["kernel"].removeprefix(_OURS)
        if row["phase"] == "prefill" and row["length"] == length and row["ours"] and name in changes:
            change = changes[name]
            found.append(
                Setting(name, row["ms"], row["x_fastest_of_others"], row["mean_keep_ratio"],
                        statistics.mean(change), max(change))
            )  # fmt: skip
    if not found:
        raise ValueError(
            f"levers: wanted settings timed and evaluated at {length:,}, got timed {sorted(_timed(speed))} and "
            f"evaluated {sorted(changes)}; run attention_speed.py and accuracy.py with modes and lengths in common"
        )
    return sorted(found, key=lambda setting: setting.ms)


def _timed(speed: Mapping[str, Any]) -> set[str]:
    return {f"{row['kernel']} at {row['length']}" for row in speed["rows"] if row["ours"]}


def on_the_front(settings: Sequence[Setting]) -> list[Setting]:
    """Those that no other beats in time and accuracy at once, fastest first."""
    front: list[Setting] = []
    for setting in sorted(settings, key=lambda setting: (setting.ms, setting.change)):
        if all(setting.change < other.change for other in front):
            front.append(setting)
    return front


def table(settings: Sequence[Setting]) -> str:
    front = on_the_front(settings)
    header = (
        "setting",
        "ms",
        "x fastest dense of others",
        "achieved keep_ratio",
        "perplexity, mean %",
        "worst text %",
        "front",
    )
    rows = [
        [
            setting.name, f"{setting.ms:.3g}", f"{setting.gain:.2f}", f"{setting.keep_ratio:.3g}",
            f"{setting.change:+.2f}", f"{setting.worst:+.2f}", "yes" if setting in front else "",
        ]
        for setting in settings
    ]  # fmt: skip
    return format_markdown(header, rows)


def draw(settings: Sequence[Setting], length: int, path: Path) -> Path:
    """Change of perplexity over time, the front as a line."""
    figure, [panel] = figure_of(1, (7.6, 4.6))
    front = on_the_front(settings)
    panel.step([s.ms for s in front], [s.change for s in front], where="post", color="0.7", zorder=1)
    for setting in settings:
        panel.scatter(setting.ms, setting.change, s=24, color="C0" if setting in front else "C3", zorder=2)
        panel.annotate(setting.name, (setting.ms, setting.change), (5, 4), textcoords="offset points", fontsize=8)
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter("{x:g}")
    panel.set_yscale("symlog", linthresh=1)
    panel.set_xlabel(f"attention alone, {length:,} rows, ms (one layer)")
    panel.set_ylabel("change of perplexity, %")
    panel.margins(x=0.2, y=0.1)
    panel.set_ylim(bottom=min(0.0, *(s.change for s in settings)) - 0.2)
    panel.grid(alpha=0.3)
    figure.suptitle("Blue: nothing is both faster and more accurate", fontsize=10)
    return save(figure, path)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, required=True, help="rows of attention, and tokens of a window")
    parser.add_argument("--speed", type=Path, required=True, help="of attention_speed.py --json")
    parser.add_argument("--accuracy", type=Path, nargs="+", required=True, help="of accuracy.py, one of each text")
    parser.add_argument("--out", type=Path, default=None, help="default: build/bench/levers_LENGTH; .md and .png")
    arguments = parser.parse_args(words)
    out = arguments.out or Path(f"build/bench/levers_{arguments.length}")
    accuracy = [json.loads(path.read_text("utf-8")) for path in arguments.accuracy]
    try:
        settings = join(json.loads(arguments.speed.read_text("utf-8")), accuracy, arguments.length)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text(table(settings) + "\n", "utf-8")
    print(table(settings))
    print("wrote", out.with_suffix(".md"), draw(settings, arguments.length, out.with_suffix(".png")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
