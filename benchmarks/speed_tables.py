"""The results of the suite as tables, for a terminal and for Markdown."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import machine

from shadowattn.runtime.measure.table import format_markdown, format_table

Result = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading, words, and a table (header, rows) if there is one."""

    title: str
    words: tuple[str, ...]
    header: tuple[str, ...] = ()
    rows: tuple[tuple[object, ...], ...] = ()

    def as_text(self) -> str:
        table = [format_table(self.header, self.rows)] if self.rows else []
        return "\n".join(["", self.title, *self.words, *table])

    def as_markdown(self) -> str:
        table = [format_markdown(self.header, self.rows)] if self.rows else []
        return "\n\n".join([f"### {self.title}", *self.words, *table])


def sections(result: Result) -> list[Section]:
    """Everything a result of one of the scripts has to say. Raises KeyError for one of another suite."""
    return _SUITES[result["suite"]](result)


def conditions(result: Result) -> tuple[str, ...]:
    """What every figure depends on."""
    cpus = "; ".join(
        f"CPU {cpu['number']}: core {cpu['core']}, package {cpu['package']}, siblings {cpu['siblings']}"
        for cpu in result["machine"]["cpus"]
    )
    lines = [
        f"Machine: {machine.in_words(result['machine'])}.",
        f"Topology: {cpus}. Pinned to CPU {', '.join(map(str, result['cores']))}.",
        f"ISA: {result['isa']} (asked: {result['isa_asked']}); {result['limits']}.",
        f"Model: {result['model']}, bundle `{result['bundle']}`, text {result['text']}.",
    ]
    return (*lines, *(f"SKIPPED: {name}: {reason}." for name, reason in result["skipped"].items()))


def _attention(result: Result) -> list[Section]:
    shape, peaks = result["shape"], result["peaks"]
    words = (
        *conditions(result),
        f"{shape['num_heads']} heads, {shape['num_kv_heads']} KV heads, d {shape['head_dim']}; rows of layers "
        f"{', '.join(map(str, result['layers']))} of {shape['num_layers']}, mean of their medians; chunks of "
        f"{result['chunks'][-1]}; {result['num_threads']} thread(s); {result['delegate']}.",
        f"Peaks of {peaks['gemm']}^3 products: float32 {_rate(peaks['float32_gflops'])} GFLOP/s, INT8 "
        f"{_rate(peaks['int8_gops'])} GOP/s. GFLOP/s counts dense causal work (4 H d L^2 / 2) whatever was left out.",
    )
    found = [Section("Attention alone: conditions", words)]
    for phase, title in (("prefill", "Prefill, L rows"), ("decode", "Decode, one row at length L")):
        rows = [row for row in result["rows"] if row["phase"] == phase]
        if rows:
            found.append(_speed(title, rows))
            found.append(_stages(f"{title}: stages of our op", [row for row in rows if "stages_ms" in row]))
    return found


def _speed(title: str, rows: Sequence[Result]) -> Section:
    header: tuple[str, ...] = ("L", "kernel", "ms", "x fastest dense", "x fastest of others", "exponent", "GFLOP/s")
    header += ("% float32 peak", "% INT8 peak", "achieved keep_ratio", "relative error", "runs")
    lines = [
        (
            *(row["length"], row["kernel"] + (" (tiled)" if row["tiled"] else ""), row["ms"], row["x_fastest_dense"]),
            *(row["x_fastest_of_others"], row["exponent"], row["gflops"]),
            *(_percent(row["share_float32_peak"]), _percent(row["share_int8_peak"])),
            *(row.get("mean_keep_ratio"), row["relative_error"], row["runs"]),
        )
        for row in rows
    ]
    fastest = dict.fromkeys(f"{row['length']:,}: {row['fastest_dense']}" for row in rows)
    return Section(title, (f"Fastest dense at {'; '.join(fastest)}.",), header, tuple(lines))


def _stages(title: str, rows: Sequence[Result]) -> Section:
    header: tuple[str, ...] = ("L", "kernel", "append ms", "estimate ms", "select ms", "attend ms", "other ms")
    header += ("estimate GOP/s", "% INT8 peak")
    lines = []
    for row in rows:
        stages = [row["stages_ms"][stage] for stage in ("append", "estimate", "select", "attend")]
        rates = (row.get("estimate_gops"), _percent(row.get("estimate_share_int8_peak")))
        lines.append((row["length"], row["kernel"], *stages, row["ms"] - sum(stages), *rates))
    words = "Quantising counts with append and estimate; other: LiteRT's call, and what medians do not add up to."
    return Section(title, (words,), header, tuple(lines))


def _scaling(result: Result) -> list[Section]:
    header = ("phase", "L", "kernel", "ms, 1 thread", f"ms, {result['num_threads']} threads", "1 / n")
    keys = ("phase", "length", "kernel", "ms_one", "ms_many", "speedup")
    lines = [tuple(row[key] for key in keys) for row in result["rows"]]
    cores = result["machine"]["physical_cores"]
    words = (f"{cores} physical cores; layer {result['layers'][0]}, both numbers of threads in turn in one process.",)
    return [Section("Threads", (*conditions(result), *words), header, tuple(lines))]


def _end_to_end(result: Result) -> list[Section]:
    header: tuple[str, ...] = ("prompt tokens", "setting", "TTFT s", "x dense", "TPOT ms", "x dense", "tok/s")
    header += ("peak RSS MiB", "cache MiB", "achieved keep_ratio", "KL to dense, nats", "same top token %")
    lines = [
        (
            *(row["prompt_tokens"], row["setting"], row["ttft_s"], row["ttft_x_dense"], row["tpot_ms"]),
            *(row["tpot_x_dense"], 1e3 / row["tpot_ms"], row["peak_rss_bytes"] / 2**20, row["cache_bytes"] / 2**20),
            *(row["mean_keep_ratio"], row["kl_mean"], _percent(row["same_top_token"])),
        )
        for row in result["rows"]
    ]
    words = (
        f"{result['num_threads']} thread(s); settings in turn, each in a process of its own; medians of "
        f"{result['runs']} runs; {result['decode_tokens']} tokens decoded after each prompt."
    )
    found = [Section("End to end", (*conditions(result), words), header, tuple(lines))]
    loads = tuple(
        (row["setting"], row["open_s"], row["prepare_s"], row["open_s"] + row["prepare_s"]) for row in result["load"]
    )
    load = (
        "Files in the page cache; Python's start and imports not counted; prepare packs the weights that the longest "
        "prompt needs.",
    )
    found.append(Section("Load time", load, ("setting", "open s", "prepare s", "together s"), loads))
    if result["peers"]:
        found.append(_peers(result))
    return found


def _peers(result: Result) -> Section:
    header = ("peer", "weights and mode", "machine", "prompt tokens", "TTFT s", "tok/s", "peak RSS MiB")
    keys = ("peer", "precision", "machine", "len", "ttft_s", "decode_tok_s", "peak_rss_mib")
    lines = tuple(tuple(row[key] for key in keys) for row in result["peers"])
    words = f"Lines of {result['peers_from']}, with the same threads and instruction set as above."
    return Section("Peers, measured by their own scripts", (words,), header, lines)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _rate(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f}"


_SUITES: dict[str, Callable[[Result], list[Section]]] = {
    "attention_speed": _attention,
    "thread_scaling": _scaling,
    "end_to_end": _end_to_end,
}
