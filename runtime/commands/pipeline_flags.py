"""The flags that say how the pipelined executor runs, shared by the subcommands that have it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

if TYPE_CHECKING:
    from shadowattn.runtime.pipeline.options import PipelineOptions
    from shadowattn.runtime.scheduling.profile import LatencyProfile

_PLANNERS = ["best", "fifo", "greedy", "johnson", "gilmore_gomory", "exhaustive", "off"]
_NAMES = ("npu", "require_npu", "scales", "planner", "profile")


def define_npu_flags(flag_values: flags.FlagValues) -> None:
    """npu, require_npu."""
    flags.DEFINE_string(
        "npu", "host", "who runs the estimate graphs: host, delegate:PATH?key=value&.., blobs:FILE (docs/npu.md)",
        flag_values=flag_values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "require_npu", False, "an estimate that the NPU does not take whole is an error", flag_values=flag_values
    )


def define_pipeline_flags(flag_values: flags.FlagValues) -> None:
    """npu, require_npu, scales, planner, profile."""
    define_npu_flags(flag_values)
    flags.DEFINE_enum(
        "scales", "auto", ["auto", "rank", "nearest", "log", "one"], "scale buckets of the estimate: docs/pipeline.md",
        flag_values=flag_values,
    )  # fmt: skip
    flags.DEFINE_enum(
        "planner", "best", _PLANNERS, "order of the head groups; off: no overlap", flag_values=flag_values
    )
    profile = "latencies to plan with; default: BUNDLE.profile.json, if there is one"
    flags.DEFINE_string("profile", None, profile, flag_values=flag_values)


def define_trace_flag(flag_values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "trace", None, "record every graph, op and wait of the pipelined executor, for ui.perfetto.dev",
        flag_values=flag_values,
    )  # fmt: skip


def check_trace(path: str | None) -> None:
    """Before work begins. Raises flags.Error."""
    if path and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
        raise flags.Error(f"--trace: wanted a file in a folder that exists, got {path!r}")


def given_pipeline_flags(flag_values: flags.FlagValues) -> list[str]:
    """Those that were given, as --name."""
    return [f"--{name}" for name in _NAMES if flag_values[name].present]


def pipelined_only(flag_values: flags.FlagValues, what: str) -> None:
    """Raises flags.Error where another executor was asked for. what: the command or flag that has only this one."""
    if flag_values["executor"].present and flag_values.executor != "pipelined":
        raise flags.Error(f"{what} is of the pipelined executor; leave out --executor={flag_values.executor}")


def pipeline_overrides(bundle: Path, flag_values: flags.FlagValues) -> dict[str, Any]:
    """What to open a session with besides its own flags: the pipelined executor where it is asked for, or any flag that
    only it has. Raises flags.Error where another executor was asked for too; ValueError."""
    given = given_pipeline_flags(flag_values) + (["--trace"] if flag_values["trace"].present else [])
    if flag_values.executor != "pipelined" and not given:
        return {}
    pipelined_only(flag_values, given[0] if given else "")
    options = npu_options(flag_values) | plan_options(flag_values) | {"profile": found_profile(bundle, flag_values)}
    return {"executor": "pipelined", "pipeline": pipeline_options(**options)}


def npu_options(flag_values: flags.FlagValues) -> dict[str, Any]:
    """Keyword arguments of PipelineOptions that the flags of define_npu_flags() stand for. Raises ValueError."""
    from shadowattn.runtime.npu.choice import NpuChoice

    return {"npu": NpuChoice.parse(flag_values.npu, flag_values.require_npu)}


def plan_options(flag_values: flags.FlagValues) -> dict[str, Any]:
    """Those that scales and planner stand for."""
    return {"scales": flag_values.scales, "planner": flag_values.planner}


def found_profile(bundle: Path, flag_values: flags.FlagValues) -> "LatencyProfile | None":
    """That of --profile, or else the one beside the bundle; None if there is none. Raises ValueError; warns."""
    from shadowattn.models.bundle import read_manifest
    from shadowattn.runtime.pipeline.profiles import find_profile
    from shadowattn.runtime.scheduling.profile import Conditions
    from shadowattn.runtime.session.modes import MODES
    from shadowattn.runtime.session.threads import default_num_threads

    asked = None if flag_values.profile is None else Path(flag_values.profile)
    conditions = Conditions(flag_values.num_threads or default_num_threads(), flag_values.mode or MODES[0])
    return find_profile(bundle, read_manifest(bundle), npu_options(flag_values)["npu"].name, conditions, asked)


def pipeline_options(**options: Any) -> "PipelineOptions":
    """Of these keyword arguments. Raises ValueError."""
    from shadowattn.runtime.pipeline.options import PipelineOptions

    return PipelineOptions(**options)
