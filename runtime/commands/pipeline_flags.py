"""The flags that say how the pipelined executor runs, shared by the subcommands that have it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from shadowattn.runtime.commands.session_flags import bundle_argument, check_bundle, check_files, readable_file

if TYPE_CHECKING:  # loaded when a session is opened: `--help` needs none of it
    from shadowattn.runtime.pipeline.options import PipelineOptions
    from shadowattn.runtime.pipeline.profile import LatencyProfile

_NAMES = ("npu", "require_npu", "scales", "planner", "profile", "trace")
PIPELINE_RESEARCH = _NAMES  # flags that --help shows last


def define_npu_flags(flag_values: flags.FlagValues) -> None:
    """npu, require_npu."""
    npu = "who runs the estimate graphs: host, delegate:PATH?key=value&.., blobs:FILE (docs/npu.md)"
    flags.DEFINE_string("npu", "host", npu, flag_values=flag_values)
    required = "an estimate that the NPU does not take whole is an error"
    flags.DEFINE_bool("require_npu", False, required, flag_values=flag_values)


def define_pipeline_flags(flag_values: flags.FlagValues) -> None:
    """npu, require_npu, scales, planner, profile, trace."""
    define_npu_flags(flag_values)
    scales, choices = "scale buckets of the estimate: docs/pipeline.md", ["auto", "rank", "nearest", "log", "one"]
    flags.DEFINE_enum("scales", "auto", choices, scales, flag_values=flag_values)
    planner, choices = "order of the head groups; off: no overlap", ["best", "fifo", "greedy", "off"]
    flags.DEFINE_enum("planner", "best", choices, planner, flag_values=flag_values)
    profile = "latencies to plan with; default: BUNDLE.profile.json, if there is one"
    flags.DEFINE_string("profile", None, profile, flag_values=flag_values)
    trace = "record every graph, op and wait of the pipelined executor, for ui.perfetto.dev"
    flags.DEFINE_string("trace", None, trace, flag_values=flag_values)


def output_file(name: str, path: str | None) -> Path | None:
    """The file of a flag, before work begins. Raises flags.Error."""
    if path is None:
        return None
    if not path or Path(path).is_dir() or not Path(path).absolute().parent.is_dir():
        raise flags.Error(f"--{name}: wanted a file in a folder that exists, got {path!r}")
    return Path(path)


def pipelined_only(flag_values: flags.FlagValues, what: str) -> None:
    """Raises flags.Error where another executor was asked for. what: the command or flag that has only this one."""
    if flag_values["executor"].present and flag_values.executor != "pipelined":
        raise flags.Error(f"{what} is of the pipelined executor; leave out --executor={flag_values.executor}")


def pipeline_bundle(name: str, usage: str, positional: list[str], flag_values: flags.FlagValues) -> Path:
    """The bundle of `profile` or `schedule`, once it and the files that flags name have been checked. Raises
    flags.Error, ValueError, OSError."""
    bundle = bundle_argument(positional, flag_values, f"shadowattn {name} {usage}")
    pipelined_only(flag_values, name)
    check_pipeline_flags(flag_values)
    for flag in ("output", "png"):
        if flag in flag_values:
            output_file(flag, flag_values[flag].value)
    check_bundle(bundle)
    check_files(flag_values, "text")
    return bundle


def check_pipeline_flags(flag_values: flags.FlagValues) -> None:
    """--npu, --profile and --trace, before anything is loaded. Raises flags.Error, OSError."""
    try:
        npu = pipeline_options(flag_values, None).npu
    except ValueError as error:
        raise flags.Error(str(error)) from None
    named = [npu.blobs] if npu.blobs else []
    if npu.delegate and os.sep in npu.delegate.library:  # any other name the system's loader looks for
        named.append(Path(npu.delegate.library))
    for file in named:
        readable_file(str(file))
    if "profile" in flag_values:
        check_files(flag_values, "profile")
    if "trace" in flag_values:
        output_file("trace", flag_values.trace)


def trace_needs_the_pipeline(flag_values: flags.FlagValues) -> None:
    """A trace must not change the executor that is traced. Raises flags.Error."""
    chosen = flag_values.executor == "pipelined" or any(flag_values[name].present for name in _NAMES if name != "trace")
    if flag_values.trace is not None and not chosen:
        raise flags.Error("--trace records the pipelined executor, which is not the default; add --executor=pipelined")


def pipeline_overrides(bundle: Path, flag_values: flags.FlagValues) -> dict[str, Any]:
    """What to open a session with besides its own flags: the pipelined executor where it is asked for, or any flag that
    only it has. Raises flags.Error where another executor was asked for too; ValueError."""
    given = [f"--{name}" for name in _NAMES if flag_values[name].present]
    if flag_values.executor != "pipelined" and not given:
        return {}
    pipelined_only(flag_values, given[0] if given else "")
    options = pipeline_options(flag_values, found_profile(bundle, flag_values))
    return {"executor": "pipelined", "pipeline": options}


def pipeline_options(flag_values: flags.FlagValues, profile: "LatencyProfile | None" = None) -> "PipelineOptions":
    """What the flags of define_pipeline_flags(), or of define_npu_flags() alone, stand for. Raises ValueError."""
    from shadowattn.runtime.pipeline.options import NpuChoice, PipelineOptions

    npu = NpuChoice.parse(flag_values.npu, flag_values.require_npu)
    chosen = {name: flag_values[name].value for name in ("scales", "planner") if name in flag_values}
    return PipelineOptions(npu, profile=profile, **chosen)


def found_profile(bundle: Path, flag_values: flags.FlagValues) -> "LatencyProfile | None":
    """That of --profile, or else the one beside the bundle; None without one. Raises ValueError; warns."""
    from shadowattn.models.bundle import read_manifest
    from shadowattn.runtime.pipeline.profile import find_profile
    from shadowattn.runtime.session.modes import MODES
    from shadowattn.runtime.session.threads import default_num_threads

    how = (flag_values.num_threads or default_num_threads(), flag_values.mode or MODES[0])
    asked = None if flag_values.profile is None else Path(flag_values.profile)
    return find_profile(bundle, read_manifest(bundle), pipeline_options(flag_values).npu.name, *how, asked)
