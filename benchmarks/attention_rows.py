"""Measures attention alone, length by length: what a result's rows hold."""

import dataclasses
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from answers import Oracle
from attention_kernel import BFLOAT16, FLOAT32, STORED, Kernel
from gemm_peaks import Peaks
from interleaved import Timing, time_interleaved
from recorded import Rows

PREFILL, DECODE = "prefill", "decode"
_EXACT = (FLOAT32, STORED, BFLOAT16)
_LONG = 8192  # from here on fewer runs: each takes about a second


@dataclasses.dataclass(frozen=True)
class Effort:
    """How often: runs of a prefill, runs of one of 8,192 rows and more, decode steps (each a run)."""

    runs: int = 5
    long_runs: int = 3
    decode_steps: int = 33  # the first is checked and not counted

    def prefills(self, length: int) -> int:
        return self.long_runs if length >= _LONG else self.runs


@dataclasses.dataclass(frozen=True)
class Layer:
    """What is attended, and by whom."""

    rows: Rows
    kernels: Sequence[Kernel]


def measure(layers: Sequence[Layer], phase: str, lengths: Sequence[int], effort: Effort) -> Iterator[dict[str, Any]]:
    """Rows of ascending lengths, in the order of the kernels. All layers have the same kernels, by name. Raises
    ValueError for a wrong answer."""
    for length in sorted(lengths):
        # Time grows with the square, and tiled rows are much the same in every layer: one will do.
        used = [layer for layer in layers if length <= len(layer.rows.q)] or layers[len(layers) // 2 :][:1]
        by_layer = {}
        for layer in used:
            print(f"bench: {phase} {length:,}, layer {layer.rows.layer}", file=sys.stderr, flush=True)
            by_layer[layer.rows.layer] = _time_layer(layer, phase, length, effort)
        heads, dim = used[0].rows.q.shape[1:]
        tiled = length > len(used[0].rows.q)
        for timings in zip(*by_layer.values(), strict=True):
            facts = {"phase": phase, "length": length, "tiled": tiled}
            work = 4 * heads * dim * (length**2 / 2 if phase == PREFILL else length)
            yield facts | _row(dict(zip(by_layer, timings, strict=True)), work)


def _time_layer(layer: Layer, phase: str, length: int, effort: Effort) -> list[Timing]:
    rows = layer.rows.first(length)
    if phase == PREFILL:
        tasks = [(kernel, kernel.prefill(rows)) for kernel in layer.kernels]
        return time_interleaved(tasks, effort.prefills(length), Oracle(rows, 0, length).check)
    steps = min(effort.decode_steps, length - 1)
    tasks = [(kernel, kernel.decode(rows, steps)) for kernel in layer.kernels]
    first = length - steps
    return time_interleaved(tasks, steps - 1, Oracle(rows, first, first + 1).check)


def _row(timings: dict[int, Timing], work: float) -> dict[str, Any]:
    """timings: of one kernel by layer. work: floating-point operations that dense attention needs."""
    kernel = next(iter(timings.values())).kernel
    seconds = {layer: timing.median for layer, timing in timings.items()}
    mean = sum(seconds.values()) / len(seconds)
    row: dict[str, Any] = {
        "kernel": kernel.name,
        "ours": kernel.ours,
        "exactness": kernel.exactness,
        "ms": 1e3 * mean,
        "ms_by_layer": {layer: 1e3 * value for layer, value in seconds.items()},
        "ms_runs_by_layer": {layer: [1e3 * s for s in timing.seconds] for layer, timing in timings.items()},
        "runs": len(next(iter(timings.values())).seconds),
        "gflops": work / mean / 1e9,
        "relative_error": max(timing.error for timing in timings.values()),
    }
    stats = [timing.stats for timing in timings.values() if timing.stats is not None]
    if stats:
        # Means over layers of medians, as the row's ms.
        row["stages_ms"] = {
            stage: 1e3 * statistics.fmean(own.seconds[stage] for own in stats) for stage in stats[0].seconds
        }
        row["mean_keep_ratio"] = statistics.fmean(own.mean_keep_ratio for own in stats)
        row["scores_int8"] = stats[0].scores_int8
        row["keep_ratio_by_layer"] = {
            layer: timing.stats.mean_keep_ratio for layer, timing in timings.items() if timing.stats is not None
        }
    return row


def compare(rows: Sequence[dict[str, Any]], peaks: Peaks, heads_times_dim: int) -> None:
    """Adds what rows say only together, and beside the machine's peaks: how many times faster a row is than the fastest
    dense kernel (our own exact mode counts) and than the fastest of the others, exponents, shares of the peaks."""
    for row in rows:
        same = [other for other in rows if (other["phase"], other["length"]) == (row["phase"], row["length"])]
        dense = [other for other in same if other["exactness"] in _EXACT]
        fastest = min(dense, key=lambda other: other["ms"])
        row["fastest_dense"] = fastest["kernel"]
        row["x_fastest_dense"] = fastest["ms"] / row["ms"]
        theirs = [other["ms"] for other in dense if not other["ours"]]
        row["x_fastest_of_others"] = min(theirs) / row["ms"] if theirs else None
        before = [
            other
            for other in rows
            if (other["phase"], other["kernel"]) == (row["phase"], row["kernel"]) and other["length"] < row["length"]
        ]
        row["exponent"] = _exponent(before[-1], row) if before else None
        row["share_float32_peak"] = None if peaks.float32 is None else row["gflops"] / peaks.float32
        row["share_int8_peak"] = None if peaks.int8 is None else row["gflops"] / peaks.int8
        if row.get("scores_int8") and row["stages_ms"]["estimate"] > 0:
            _estimate_rate(row, peaks, heads_times_dim)


def _exponent(shorter: dict[str, Any], longer: dict[str, Any]) -> float:
    """p where time grows as length^p between the two; the same layers on both sides."""
    common = [layer for layer in longer["ms_by_layer"] if layer in shorter["ms_by_layer"]]
    ratio = sum(longer["ms_by_layer"][layer] for layer in common)
    ratio /= sum(shorter["ms_by_layer"][layer] for layer in common)
    return math.log(ratio) / math.log(longer["length"] / shorter["length"])


def _estimate_rate(row: dict[str, Any], peaks: Peaks, heads_times_dim: int) -> None:
    """Q.K^T is half of the work that gflops counts. The stage may do more than that (docs/op_spec.md)."""
    length = row["length"]
    pairs = length**2 / 2 if row["phase"] == PREFILL else length
    row["estimate_gops"] = 2 * heads_times_dim * pairs / (row["stages_ms"]["estimate"] / 1e3) / 1e9
    row["estimate_share_int8_peak"] = None if peaks.int8 is None else row["estimate_gops"] / peaks.int8
