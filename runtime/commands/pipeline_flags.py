"""The flags that say how the pipelined executor runs, shared by the subcommands that have it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

if TYPE_CHECKING:
    from shadowattn.runtime.pipeline.options import PipelineOptions

_PLANNERS = ["best", "fifo", "greedy", "johnson", "gilmore_gomory", "exhaustive", "off"]
_NAMES = ("npu", "require_npu", "scales", "planner", "profile", "launch_ms")


def define_pipeline_flags(flag_values: flags.FlagValues) -> None:
    """npu, require_npu, scales, planner, profile, launch_ms."""
    flags.DEFINE_string(
        "npu", "host", "who runs the estimate graphs: host, delegate:PATH?key=value&.., blobs:FILE (docs/npu.md)",
        flag_values=flag_values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "require_npu", False, "an estimate that the NPU does not take whole is an error", flag_values=flag_values
    )
    flags.DEFINE_enum(
        "scales", "auto", ["auto", "rank", "nearest", "log", "one"], "scale buckets of the estimate: docs/pipeline.md",
        flag_values=flag_values,
    )  # fmt: skip
    flags.DEFINE_enum(
        "planner", "best", _PLANNERS, "order of the head groups; off: no overlap", flag_values=flag_values
    )
    flags.DEFINE_string(
        "profile",
        None,
        "latencies to plan with; default: BUNDLE.profile.json, if there is one",
        flag_values=flag_values,
    )
    flags.DEFINE_float(
        "launch_ms", 0.0, "EMULATED: milliseconds that every estimate launch sleeps", lower_bound=0.0,
        flag_values=flag_values,
    )  # fmt: skip


def define_trace_flag(flag_values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "trace", None, "record every graph, op and wait of the pipelined executor, for ui.perfetto.dev",
        flag_values=flag_values,
    )  # fmt: skip


def check_trace(path: str | None) -> None:
    """Before work begins. Raises flags.Error."""
    if path and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
        raise flags.Error(f"--trace: wanted a file in a folder that exists, got {path!r}")


def pipeline_overrides(bundle: Path, flag_values: flags.FlagValues) -> dict[str, Any]:
    """What to open a session with besides its own flags: the pipelined executor where it is asked for, or any flag that
    only it has. Raises flags.Error where another executor was asked for too; ValueError."""
    given = [f"--{name}" for name in (*_NAMES, "trace") if flag_values[name].present]
    if flag_values.executor != "pipelined" and not given:
        return {}
    if flag_values["executor"].present and flag_values.executor != "pipelined":
        raise flags.Error(f"{given[0]} is of the pipelined executor; leave out --executor={flag_values.executor}")
    return {"executor": "pipelined", "pipeline": pipeline_options(bundle, flag_values)}


def pipeline_options(bundle: Path, flag_values: flags.FlagValues, **overrides: Any) -> "PipelineOptions":
    """What the flags stand for; `overrides` go before them. Raises ValueError."""
    from shadowattn.models.bundle import read_manifest
    from shadowattn.runtime.npu.choice import NpuChoice
    from shadowattn.runtime.pipeline.options import PipelineOptions
    from shadowattn.runtime.pipeline.profiles import find_profile

    profile = flag_values.profile
    options = {
        "npu": NpuChoice.parse(flag_values.npu, flag_values.require_npu),
        "scales": flag_values.scales,
        "planner": flag_values.planner,
        "profile": find_profile(bundle, read_manifest(bundle), None if profile is None else Path(profile)),
        "launch_ms": flag_values.launch_ms,
    }
    return PipelineOptions(**(options | overrides))
