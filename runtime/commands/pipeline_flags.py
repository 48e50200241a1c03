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


def asks_for_pipeline(flag_values: flags.FlagValues) -> bool:
    """Whether any of them was given."""
    return any(flag_values[name].present for name in _NAMES)


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
