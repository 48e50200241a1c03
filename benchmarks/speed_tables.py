"""The results of the suite as tables, for a terminal and for Markdown."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import machine

from shadowattn.runtime.measure.table import format_markdown, format_table

Result = dict[str, Any]
NOT_INSTALLED, NOT_MEASURED, FAILED = "not installed", "not measured", "failed"


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
    words = (
        f"{cores} physical cores; layer {result['layers'][0]}, both numbers of threads interleaved in one process.",
    )
    return [Section("Threads", (*conditions(result), *words), header, tuple(lines))]


def _end_to_end(result: Result) -> list[Section]:
    long = result["long_rounds"]
    fewer = "" if long == result["rounds"] else f", {long} of the longest prompts"
    words = (
        f"{result['num_threads']} thread(s); medians of {result['rounds']} interleaved round(s){fewer}, each run in a "
        f"process of its own; {result['decode_tokens']} greedy tokens after each prompt.",
    )
    found = [Section("End to end: conditions", (*conditions(result), *words))]
    found.append(_systems(result))
    if result["rows"]:
        found += [_first_token(result), _all_figures(result)]
    return found


def _systems(result: Result) -> Section:
    header = ("system", "weights", "here", "versions", "instruction sets, in its own words")
    rows = tuple(
        (
            *(system["title"], system["weights"], "yes" if system["installed"] else NOT_INSTALLED),
            *(system["version"] or "-", system["isa"] or "-"),
        )
        for system in result["systems"]
    )
    return Section("Systems", (), header, rows)


def _first_token(result: Result) -> Section:
    """The table of README.md: a row per system, a column per length."""
    lengths = sorted({row["prompt_tokens"] for row in result["rows"]})
    longest = f"at {lengths[-1]:,}"
    header = ("TTFT, s, after a prompt of", *(f"{length:,}" for length in lengths))
    header += (f"decode, tokens/s {longest}", f"peak RSS, MiB {longest}")
    cells = {(row["system"], row["prompt_tokens"]): row for row in result["rows"]}
    reasons = {(each["system"], each["length"]): FAILED for each in result["failed"]}
    lines = []
    for system in result["systems"]:
        name = system["name"]
        line = [system["title"]]
        for length in lengths:
            absent = reasons.get((name, length), NOT_MEASURED if system["installed"] else NOT_INSTALLED)
            line.append(_seconds(cells[name, length]) if (name, length) in cells else absent)
        last = cells.get((name, lengths[-1]))
        line += (
            ["-", "-"] if last is None else [f"{last['decode_tok_s']:.3g}", f"{last['peak_rss_bytes'] / 2**20:,.0f}"]
        )
        lines.append(tuple(line))
    first = result["systems"][0]["title"]
    words = [f"In brackets: times that of {first}.", *_other_answers(result)]
    words += [f"Failed: {each['system']} at {each['length']:,} tokens: {each['reason']}." for each in result["failed"]]
    return Section("Time to first token", tuple(words), header, tuple(lines))


def _seconds(row: Result) -> str:
    mark = " *" if row["same_first_token"] is False else ""
    return f"{row['ttft_s']:.3g} ({row['x_first']:.2f}){mark}"


def _other_answers(result: Result) -> list[str]:
    """Whose first token is another one, and who does not tell."""
    right = {row["prompt_tokens"]: row["first_token"] for row in result["rows"] if row["system"] == result["reference"]}
    other = [
        f"{row['system']} at {row['prompt_tokens']:,} ({row['first_token']}, not {right.get(row['prompt_tokens'])})"
        for row in result["rows"]
        if row["same_first_token"] is False
    ]
    said = f"First greedy token, compared with that of {result['reference']}: "
    found = [said + (f"another one (*) for {', '.join(other)}." if other else "the same wherever it is known.")]
    if silent := sorted({row["system"] for row in result["rows"] if row["same_first_token"] is None}):
        found.append(f"Not known: {', '.join(silent)}.")
    return found


def _all_figures(result: Result) -> Section:
    header: tuple[str, ...] = ("prompt tokens", "system", "TTFT s", "least", "most", "decode tokens/s", "TPOT ms")
    header += ("peak RSS MiB", "load s", "cache MiB", "achieved keep_ratio", "first token", "runs")
    lines = [
        (
            *(row["prompt_tokens"], row["system"], row["ttft_s"], min(row["ttft_s_runs"]), max(row["ttft_s_runs"])),
            *(row["decode_tok_s"], 1e3 / row["decode_tok_s"], row["peak_rss_bytes"] / 2**20, row["load_s"]),
            *(None if row["cache_bytes"] is None else row["cache_bytes"] / 2**20, row["mean_keep_ratio"]),
            *(str(row["first_token"]), row["runs"]),
        )
        for row in result["rows"]
    ]
    words = "load: the model's, without Python's start and imports, files in the page cache; of ours with packing."
    return Section("All figures", (words,), header, tuple(lines))


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _rate(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f}"


_SUITES: dict[str, Callable[[Result], list[Section]]] = {
    "attention_speed": _attention,
    "thread_scaling": _scaling,
    "end_to_end": _end_to_end,
}
