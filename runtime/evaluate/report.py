"""The tables of an evaluation's report, for a terminal or for a document."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from shadowattn.runtime.evaluate.heads import MEASURES
from shadowattn.runtime.measure.table import format_table, significant

Row = Mapping[str, Any]
_VARIANT = ("mode", "keep_ratio", "achieved")


@dataclasses.dataclass(frozen=True)
class Table:
    """A title and what format_table() takes."""

    title: str
    header: tuple[str, ...]
    rows: list[list[object]]

    def __str__(self) -> str:
        return f"{self.title}\n\n{format_table(self.header, self.rows)}"


def format_report(report: Mapping[str, Any]) -> str:
    """What `shadowattn eval` prints."""
    executor = report["settings"]["session"].get("executor") or "fused"
    head = (
        f"{report['model']} ({report['weights']}), {executor} executor, ISA {report['isa']}, "
        f"{report['num_threads']} threads"
    )
    notes = [f"Note: {note}." for note in report["notes"]]
    return "\n\n".join([head, *notes, *map(str, tables(report["rows"], report.get("summary", ())))])


def tables(rows: Sequence[Row], summary: Sequence[Row] = ()) -> list[Table]:
    """Every table that there are rows for."""
    found = []
    for task, make in _TABLES.items():
        own = [row for row in rows if row["task"] == task]
        found += make(own) if own else []
        if task == "perplexity" and own and summary and summary[0]["texts"] > 1:
            found.append(summary_table(summary))
    return found


def perplexity_tables(rows: Sequence[Row]) -> list[Table]:
    """One per text and window."""
    header = (*_VARIANT, "perplexity", "change %", "+- %", "KL mean", "KL p99", "same top %", "s")
    found = []
    for text, window in dict.fromkeys((row["text"], row["window"]) for row in rows):
        own = [row for row in rows if (row["text"], row["window"]) == (text, window)]
        lines = [[*_variant(row), *_perplexity_cells(row)] for row in own]
        title = f"Perplexity: {text}, {own[0]['tokens']:,} predicted tokens in windows of {window:,}"
        found.append(Table(title, header, lines))
    return found


def _perplexity_cells(row: Row) -> list[object]:
    change = [None, None] if row["base"] else [_signed(row["change_percent"]), f"{row['loss_change_stderr']:.2f}"]
    distance = [None, None] if row["base"] else [row["kl_mean"], row["kl_p99"]]
    return [f"{row['perplexity']:.3f}", *change, *distance, f"{100 * row['same_top']:.1f}", f"{row['seconds']:.0f}"]


def summary_table(summary: Sequence[Row]) -> Table:
    header = (*_VARIANT, "change % mean", "worst %", "worst text", "KL mean")
    lines: list[list[object]] = []
    for row in summary:
        if not row["base"]:
            changes = [_signed(row["change_percent"]), _signed(row["worst_change_percent"])]
            lines.append([*_variant(row), *changes, row["worst_text"], row["kl_mean"]])
    return Table(f"Over {summary[0]['texts']} texts", header, lines)


def needle_tables(rows: Sequence[Row]) -> list[Table]:
    header = (*_VARIANT, "prompt tokens", "needles", "found by dense", "found", "lost", "gained")
    names = ("length", "cases", "found_dense", "found", "lost", "gained")
    lines = [[*_variant(row), *(row[name] for name in names)] for row in _by_variant(rows)]
    return [Table("Needles, found without an answer prefix", header, lines)]


def greedy_tables(rows: Sequence[Row]) -> list[Table]:
    header = (*_VARIANT, "identical %", "identical prefix", "identical after dense's tokens %")
    lines: list[list[object]] = []
    for row in rows:
        shares = [f"{100 * row[name]:.1f}" for name in ("identical", "identical_forced")]
        lines.append([*_variant(row), shares[0], f"{row['identical_prefix']:.1f}", shares[1]])
    first = rows[0]
    title = (
        f"Greedy continuations: {first['continue_tokens']} tokens after {first['prompts']} prompts of "
        f"{first['prompt_tokens']:,} tokens, against dense"
    )
    return [Table(title, header, lines)]


def head_tables(rows: Sequence[Row]) -> list[Table]:
    """One per measure: mean, least, and which head that is."""
    titles = {
        "kept": "share of positions read",
        "mass": "softmax mass of the positions read",
        "recall": "share of the float32 top-k found",
    }
    header = ("text", *_VARIANT, "mean", "least", "layer", "head")
    found = []
    for name in MEASURES:
        lines = [
            [row["text"], *_variant(row), row[f"{name}_mean"], row[f"{name}_min"], *row[f"{name}_argmin"]]
            for row in rows
        ]
        found.append(Table(f"Heads: {titles[name]}", header, lines))
    return found


def estimate_tables(rows: Sequence[Row]) -> list[Table]:
    """Recall by scheme."""
    header = ("text", "scheme", "keep_ratio", "recall, mean", "least", "layer", "head")
    lines: list[list[object]] = []
    for row in rows:
        recalls = [f"{row['recall_mean']:.4f}", f"{row['recall_min']:.3f}", *row["recall_argmin"]]
        lines.append([row["text"], row["scheme"], row["keep_ratio"], *recalls])
    return [
        Table(f"Estimates: share of the float32 top-k found; grids fitted on {rows[0]['calibration']}", header, lines)
    ]


_TABLES = {
    "perplexity": perplexity_tables,
    "needle": needle_tables,
    "greedy": greedy_tables,
    "heads": head_tables,
    "estimate": estimate_tables,
}


def _by_variant(rows: Sequence[Row]) -> list[Row]:
    keys = list(dict.fromkeys((row["mode"], row["keep_ratio"]) for row in rows))
    return sorted(rows, key=lambda row: keys.index((row["mode"], row["keep_ratio"])))


def _variant(row: Row) -> list[object]:
    ratio = row["keep_ratio"]
    asked = f"{ratio:g}" if isinstance(ratio, float) else ratio
    return [row["mode"], "-" if asked is None else asked, _achieved(row["mean_keep_ratio"])]


def _achieved(value: float | None) -> str | None:
    return None if value is None else significant(value)


def _signed(value: float) -> str:
    return f"{value:+.2f}"
