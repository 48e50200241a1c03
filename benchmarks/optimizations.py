"""Time and accuracy of every setting together: which are worth having, as a table and a picture.

python benchmarks/optimizations.py --length=2048 --speed=build/bench/optimizations.json
    --accuracy build/accuracy/perplexity_2048_*.json [--out=build/bench/optimizations_2048]

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

from colors import color_of
from speed_plots import figure_of, save, where

from shadowattn.runtime.measure.table import format_markdown

_OURS = "ours, "
_GAINS, _CHANGES = (0.5, 8.0), (-0.1, 100.0)  # at least shown, so that pictures can be compared


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
    """Settings that both know, fastest first. Raises ValueError if they share no setting."""
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
            f"optimizations: wanted settings timed and evaluated at {length:,}, got timed {sorted(_timed(speed))} and "
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


def draw(settings: Sequence[Setting], words: str, path: Path) -> Path:
    """Change of perplexity over speed, the front as a line. words: length, model and machine."""
    figure, [panel] = figure_of(1, (8.4, 6.0))
    front = on_the_front(settings)
    panel.step([s.gain for s in front], [s.change for s in front], where="post", color="0.7", zorder=1)
    for setting in settings:
        mark = "o" if setting in front else "x"
        look = {"s": 40, "marker": mark, "color": color_of(setting.name), "zorder": 2}
        panel.scatter(setting.gain, setting.change, label=setting.name, **look)
    panel.set_xscale("log", base=2)
    panel.set_xlim(min(_GAINS[0], *(s.gain for s in settings)), max(_GAINS[1], *(s.gain for s in settings)))
    panel.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
    panel.set_yscale("symlog", linthresh=0.3, linscale=0.6)
    panel.set_ylim(min(_CHANGES[0], *(s.change for s in settings)), max(_CHANGES[1], *(s.change for s in settings)))
    panel.set_yticks([0, 0.1, 0.3, 1, 3, 10, 30, 100], ["0", "0.1", "0.3", "1", "3", "10", "30", "100"])
    panel.yaxis.set_minor_formatter("")
    panel.set_xlabel("speed of attention alone, times that of the fastest dense kernel of other libraries")
    panel.set_ylabel("change of perplexity, %")
    panel.grid(alpha=0.3)
    figure.suptitle(f"Speed and accuracy, {words}\nRound: nothing is both faster and more accurate", fontsize=10)
    figure.legend(fontsize=8, loc="outside lower center", ncols=3)
    return save(figure, path)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, required=True, help="rows of attention, and tokens of a window")
    parser.add_argument("--speed", type=Path, required=True, help="of attention_speed.py --json")
    parser.add_argument("--accuracy", type=Path, nargs="+", required=True, help="of accuracy.py, one of each text")
    parser.add_argument("--out", type=Path, default=None, help="default: build/bench/optimizations_LENGTH")
    arguments = parser.parse_args(words)
    out = arguments.out or Path(f"build/bench/optimizations_{arguments.length}")
    speed = json.loads(arguments.speed.read_text("utf-8"))
    accuracy = [json.loads(path.read_text("utf-8")) for path in arguments.accuracy]
    try:
        settings = join(speed, accuracy, arguments.length)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text(table(settings) + "\n", "utf-8")
    print(table(settings))
    words_of_title = f"{arguments.length:,} rows: {where(speed)}"
    print("wrote", out.with_suffix(".md"), draw(settings, words_of_title, out.with_suffix(".png")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
