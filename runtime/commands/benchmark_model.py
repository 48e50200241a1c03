"""`shadowattn benchmark_model`: the flags and lines of TFLite's benchmark_model, on the pip interpreter."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from shadowattn.runtime.commands.session_flags import readable_file

if TYPE_CHECKING:  # loaded by run(): `--help` needs none of it
    from shadowattn.runtime.benchmark_model.arguments import InputLayer
    from shadowattn.runtime.benchmark_model.session import Request

_LARGEST_THREADS = 64  # what our delegate takes
_STRINGS = {
    "graph": "a .tflite file, or a bundle folder: its model.tflite with our delegate",
    "signature_to_run_for": "which signature; needed where there are several",
    "external_delegate_path": "library of an external delegate",
    "external_delegate_options": "key:value;key:value (docs/op_spec.md); for a bundle they go before its own",
    "input_layer": "names of all inputs, as in tokens,position,n_valid,cache",
    "input_layer_shape": "their shapes, as in 1,256:1:1:1",
    "input_layer_value_range": "whole numbers, ends included, as in n_valid,256,256:cache,0,0",
    "input_layer_value_files": "name:path,name:path; a file holds the tensor's bytes",
    "profiling_output_csv_file": "with --enable_op_profiling: write the stages there",
}
_FLOATS = {
    "min_secs": (1.0, "least seconds of the timed runs together"),
    "max_secs": (150.0, "no new run after that many seconds"),
    "run_delay": (-1.0, "seconds between two runs; none if not above 0"),
    "warmup_min_secs": (0.5, "least seconds of the warm-up runs together"),
}
_LABELS = {
    "num_runs": "Min num runs",
    "min_secs": "Min runs duration (seconds)",
    "max_secs": "Max runs duration (seconds)",
    "run_delay": "Inter-run delay (seconds)",
    "num_threads": "Num threads",
    "warmup_runs": "Min warmup runs",
    "warmup_min_secs": "Min warmup runs duration (seconds)",
    "report_peak_memory_footprint": "Report the peak memory footprint",
    "graph": "Graph",
    "signature_to_run_for": "Signature to run",
    "input_layer": "Input layers",
    "input_layer_shape": "Input shapes",
    "input_layer_value_range": "Input value ranges",
    "input_layer_value_files": "Input value files",
    "enable_op_profiling": "Enable op profiling",
    "profiling_output_csv_file": "CSV File to export profiling data to",
    "use_xnnpack": "Use xnnpack",
    "external_delegate_path": "External delegate path",
    "external_delegate_options": "External delegate options",
}


class BenchmarkModel:
    """The subcommand; the contract is in shadowattn.runtime.cli."""

    name = "benchmark_model"
    summary = "time one signature with the flags and lines of TFLite's benchmark_model; docs/device.md"
    usage = "--graph=FILE|BUNDLE [flags]"
    example = (
        "shadowattn benchmark_model --graph=smollm2.bundle --signature_to_run_for=decode "
        "--external_delegate_options='benchmark_rows:4096'\n"
        "shadowattn benchmark_model --graph=model.tflite --external_delegate_path=libshadow_delegate.so "
        "--signature_to_run_for=decode "
        "--external_delegate_options='plan:plan.bin;signatures:decode;benchmark_rows:4096'"
    )

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        for name, text in _STRINGS.items():
            flags.DEFINE_string(name, "", text, flag_values=flag_values)
        flags.DEFINE_integer("num_runs", 50, "least number of timed runs", lower_bound=1, flag_values=flag_values)
        flags.DEFINE_integer("warmup_runs", 1, "least number of warm-up runs", lower_bound=0, flag_values=flag_values)
        flags.DEFINE_integer(
            "num_threads", -1, "threads of LiteRT, and of our delegate for a bundle; -1: LiteRT's default, which is 1",
            lower_bound=-1, upper_bound=_LARGEST_THREADS, flag_values=flag_values,
        )  # fmt: skip
        for name, (default, text) in _FLOATS.items():
            flags.DEFINE_float(name, default, text, flag_values=flag_values)
            flags.register_validator(name, lambda value: not math.isnan(value), "wanted a number", flag_values)
        flags.register_validator("max_secs", lambda value: value >= 0, "wanted 0 or more", flag_values)
        flags.DEFINE_bool("use_xnnpack", True, "XNNPACK for what no delegate claims", flag_values=flag_values)
        flags.DEFINE_bool("verbose", False, "log the flags that were not given, too", flag_values=flag_values)
        flags.DEFINE_bool(
            "enable_op_profiling",
            False,
            "times within an inference, as far as they can be had",
            flag_values=flag_values,
        )
        flags.DEFINE_bool("report_peak_memory_footprint", False, "the largest memory, too", flag_values=flag_values)

    def run(self, positional: list[str], flag_values: flags.FlagValues) -> int:
        if positional:
            raise flags.Error(f"benchmark_model takes no arguments but flags, got {positional[0]!r}")
        if not flag_values.graph:
            raise flags.Error("wanted --graph with a .tflite file or a bundle folder, got none")
        if flag_values.profiling_output_csv_file and not flag_values.enable_op_profiling:
            raise flags.Error("--profiling_output_csv_file needs --enable_op_profiling; add it")
        request = _request(flag_values)
        from shadowattn.runtime.benchmark_model.log import Log
        from shadowattn.runtime.benchmark_model.session import benchmark

        log = Log()
        log.info("STARTING!")
        _log_parameters(log.info, flag_values)
        benchmark(request, log)
        return 0


def _request(flag_values: flags.FlagValues) -> "Request":
    """Raises flags.Error for what cannot be read."""
    from shadowattn.runtime.benchmark_model.arguments import parse_delegate_options

    try:
        options = parse_delegate_options(flag_values.external_delegate_options)
        layers = _layers(flag_values)
    except ValueError as error:
        raise flags.Error(str(error)) from None
    for layer in layers:
        if layer.file is not None:
            readable_file(str(layer.file))
    if not Path(flag_values.graph).exists():
        raise ValueError(f"{flag_values.graph}: there is no such file; --graph wants a .tflite file or a bundle folder")
    from shadowattn.runtime.benchmark_model.session import Request
    from shadowattn.runtime.benchmark_model.timing import Pace

    csv = flag_values.profiling_output_csv_file
    delay, most = flag_values.run_delay, flag_values.max_secs
    return Request(
        graph=flag_values.graph,
        signature=flag_values.signature_to_run_for,
        library=flag_values.external_delegate_path,
        options=options,
        layers=layers,
        num_threads=flag_values.num_threads,
        use_xnnpack=flag_values.use_xnnpack,
        warmup=Pace(flag_values.warmup_runs, flag_values.warmup_min_secs, most, delay),
        timed=Pace(flag_values.num_runs, flag_values.min_secs, most, delay),
        profile=flag_values.enable_op_profiling,
        csv=Path(csv) if csv else None,
        peak_memory=flag_values.report_peak_memory_footprint,
    )


def _layers(flag_values: flags.FlagValues) -> "list[InputLayer]":
    from shadowattn.runtime.benchmark_model.arguments import parse_input_layers

    return parse_input_layers(
        flag_values.input_layer,
        flag_values.input_layer_shape,
        flag_values.input_layer_value_range,
        flag_values.input_layer_value_files,
    )


def _log_parameters(info: Callable[[str], None], flag_values: flags.FlagValues) -> None:
    """Those that were given; all with --verbose; graph and signature in any case."""
    info(f"Log parameter values verbosely: [{int(flag_values.verbose)}]")
    for name, label in _LABELS.items():
        flag = flag_values[name]
        if flag.present or flag_values.verbose or name in ("graph", "signature_to_run_for"):
            value = flag.value
            text = f"{value:g}" if isinstance(value, float) else str(int(value) if isinstance(value, bool) else value)
            info(f"{label}: [{text}]")


COMMAND = BenchmarkModel()
