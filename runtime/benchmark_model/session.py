"""One benchmark from start to end: open, fill, warm up, time, report, with the stock tool's lines."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shadowattn.runtime.benchmark_model import memory, stages
from shadowattn.runtime.benchmark_model.arguments import InputLayer, format_delegate_options
from shadowattn.runtime.benchmark_model.delegation import report_delegation
from shadowattn.runtime.benchmark_model.fill import fill_inputs
from shadowattn.runtime.benchmark_model.graph import BenchmarkGraph
from shadowattn.runtime.benchmark_model.log import Log
from shadowattn.runtime.benchmark_model.target import Target, choose_target
from shadowattn.runtime.benchmark_model.timing import Pace, format_statistics, mean, run_repeatedly

_SHOWN = 4  # inputs of up to so many values are logged with them


@dataclasses.dataclass(frozen=True)
class Request:
    """What the flags ask for."""

    graph: str
    signature: str
    library: str
    options: dict[str, str]
    layers: list[InputLayer]
    num_threads: int
    use_xnnpack: bool
    warmup: Pace
    timed: Pace
    profile: bool
    csv: Path | None
    peak_memory: bool


def benchmark(request: Request, log: Log) -> None:
    """Raises ValueError, with the graph's own message if it does not run."""
    target = choose_target(request.graph, request.signature, request.library, request.options, request.num_threads)
    if request.csv is not None and target.shadow is None:
        raise ValueError("--profiling_output_csv_file: only the shadowattn delegate counts its stages and "
                         f"{target.library or 'no delegate'} is not it; leave the flag out")  # fmt: skip
    if request.csv is not None and not request.csv.parent.is_dir():
        raise ValueError(f"--profiling_output_csv_file: there is no folder {request.csv.parent}; make it first")
    memory_start = memory.peak_mb()
    began = time.perf_counter_ns()
    with _opened(target, request, log) as (graph, matched):
        init_us = (time.perf_counter_ns() - began) // 1000
        memory_init = memory.peak_mb()
        log.info(f"The input model file size (MB): {target.model.stat().st_size / 1e6:g}")
        log.info(f"Initialized session in {init_us / 1e3:g}ms.")
        report_delegation(log, graph.nodes(), target.library is not None)
        values = fill_inputs(graph.inputs(), matched)
        _log_values(log, values)
        _warn_of_padding(log, graph, values)
        warmup, timed = _run(graph, values, request, log)
        first = (warmup or timed)[0]
        log.info(f"Inference timings in us: Init: {init_us}, First inference: {first}, "
                 f"Warmup (avg): {mean(warmup):g}, Inference (avg): {mean(timed):g}")  # fmt: skip
        _report_memory(log, request, memory_start, memory_init)
        _report_stages(log, graph, request, timed)
    log.repeat_warnings()


@contextlib.contextmanager
def _opened(target: Target, request: Request, log: Log) -> Iterator[tuple[BenchmarkGraph, list[InputLayer | None]]]:
    """The graph, ready to run, and the flags' layer of each of its inputs."""
    graph = BenchmarkGraph(target, max(request.num_threads, 1), request.use_xnnpack)
    try:
        log.info(f"Loaded model {target.model}")
        if graph.signature:
            log.info(f"Using signature: {graph.signature}")
        matched = graph.resize(request.layers)
        if target.library is not None:
            graph.apply_delegate()
            log.info(f"EXTERNAL delegate created: {target.library}")
            log.info(f"External delegate options: [{format_delegate_options(target.options)}]")
        graph.prepare()
        yield graph, matched
    finally:
        graph.close()


def _run(
    graph: BenchmarkGraph, values: dict[str, np.ndarray], request: Request, log: Log
) -> tuple[list[int], list[int]]:
    """Microseconds of the warm-up runs and of the timed ones; the delegate's counters are those of the timed ones."""

    def fill() -> None:
        for name, view in graph.runner.inputs.items():
            view[...] = values[name]

    results: list[list[int]] = []
    for pace in (request.warmup, request.timed):
        log.info(f"Running benchmark for at least {pace.min_runs} iterations and at least {pace.min_secs:g} seconds "
                 f"but terminate if exceeding {pace.max_secs:g} seconds.")  # fmt: skip
        if (shadow := graph.shadow()) is not None:
            shadow.reset_cache_stats(0)
        try:
            results.append(run_repeatedly(fill, graph.runner.invoke, pace))
        except RuntimeError as error:
            raise ValueError(f"{error}{_next_step(graph, values, str(error))}") from None
        log.info(format_statistics(results[-1]))
    return results[0], results[1]


def _next_step(graph: BenchmarkGraph, values: dict[str, np.ndarray], reason: str) -> str:
    """What to give instead of random numbers, unless the reason is another one and names its own step."""
    if "was not opened" in reason:
        return ""
    if graph.shadow() is None or "position" not in values or _benchmark_rows(graph):
        return "; give values that the graph takes: --input_layer_value_range or --input_layer_value_files"
    return (
        "; random inputs mean nothing to a KV cache: add benchmark_rows:N to --external_delegate_options, or give "
        "position, n_valid and cache values with --input_layer_value_range"
    )


def _benchmark_rows(graph: BenchmarkGraph) -> bool:
    return graph.options.get("benchmark_rows", "0") != "0"


def _warn_of_padding(log: Log, graph: BenchmarkGraph, values: dict[str, np.ndarray]) -> None:
    """With benchmark_rows a random n_valid is clamped: the delegate would work on a part of the chunk silently."""
    if graph.shadow() is None or not _benchmark_rows(graph) or not {"tokens", "n_valid"} <= set(values):
        return
    chunk, valid = values["tokens"].shape[-1], int(values["n_valid"].ravel()[0])
    if valid < chunk:
        log.warn(
            f"n_valid is {valid}: attention works on {max(valid, 1)} of the {chunk} rows of a chunk; for all add "
            f"--input_layer_value_range=n_valid,{chunk},{chunk} with --input_layer, --input_layer_shape"
        )


def _log_values(log: Log, values: dict[str, np.ndarray]) -> None:
    for name, value in values.items():
        shown = f" = {', '.join(map(str, value.ravel().tolist()))}" if value.size <= _SHOWN else ""
        log.info(f"Input {name}: {value.dtype} {list(value.shape)}{shown}")


def _report_memory(log: Log, request: Request, start: float, init: float) -> None:
    peak = memory.peak_mb()
    log.info("Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the "
             "actual memory footprint of the model at runtime. Here the tool is Python.")  # fmt: skip
    log.info("Memory footprint delta from the start of the tool (MB): "
             f"init={init - start:g} overall={peak - start:g}")  # fmt: skip
    if request.peak_memory:
        log.info(f"Overall peak memory footprint (MB) by the kernel's count, with Python: {peak:g}")
        for line in memory.status_lines():
            log.info(line)


def _report_stages(log: Log, graph: BenchmarkGraph, request: Request, times: list[int]) -> None:
    stats = None if (shadow := graph.shadow()) is None else shadow.cache_stats(0)
    if stats is not None:
        log.info(stages.describe_reads(stats))
    if not request.profile:
        return
    log.warn("Op profiling: the pip interpreter (ai-edge-litert) has no per-op profile, so no time of a single op is "
             "known here; the stock benchmark_model has one")  # fmt: skip
    if stats is None:
        log.info("Nothing within an inference was measured: the delegate is not shadowattn's, or no delegate runs")
        return
    measured = stages.stages_of(stats, times)
    log.info(f"Measured by the delegate itself, wall time over the {len(times)} timed runs:")
    for line in stages.format_stages(measured):
        log.info(line)
    if request.csv is not None:
        request.csv.write_text(stages.csv_of(measured), "utf-8")
        log.info(f"Wrote {request.csv}")
