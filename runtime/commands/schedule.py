"""`shadowattn schedule`: the plan of one layer and chunk, what it should gain, and what it does gain here."""

import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from shadowattn.runtime.commands.pipeline_flags import (
    define_pipeline_flags,
    found_profile,
    npu_options,
    pipeline_options,
    pipelined_only,
    plan_options,
)
from shadowattn.runtime.commands.profile import measure
from shadowattn.runtime.commands.session_flags import bundle_argument, define_session_flags, open_session

if TYPE_CHECKING:  # loaded by run(): `--help` needs none of it
    from shadowattn.models.bundle import Manifest
    from shadowattn.runtime.scheduling.problem import Problem
    from shadowattn.runtime.scheduling.profile import LatencyProfile
    from shadowattn.runtime.scheduling.profiled import Shape
    from shadowattn.runtime.scheduling.schedule import Schedule
    from shadowattn.runtime.tracing.trace import Span


class ScheduleCommand:
    """The subcommand; the contract is in shadowattn.runtime.cli."""

    name = "schedule"
    summary = "plan the head groups of a layer and chunk; predicted beside measured"
    usage = "BUNDLE [flags]"
    example = (
        "shadowattn schedule smollm2.bundle --kv_len=4096 --png=plan.png\n"
        "shadowattn schedule smollm2.bundle --kv_len=2048 --trace=chunk.json    # opens in ui.perfetto.dev\n"
        "shadowattn schedule smollm2.bundle --soc=snapdragon_8_gen_3 --kv_len=2048"
    )

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        flags.DEFINE_integer(
            "kv_len", None, "positions in the cache after the chunk; default: 4096, or what fits", lower_bound=1,
            flag_values=flag_values,
        )  # fmt: skip
        soc = "plan for a phone: its latency file, or snapdragon_8_gen_3 for the paper's; SIMULATED, nothing is run"
        flags.DEFINE_string("soc", None, soc, flag_values=flag_values)
        flags.DEFINE_string("png", None, "draw predicted above measured; needs matplotlib", flag_values=flag_values)
        flags.DEFINE_string("trace", None, "write the measured chunk for ui.perfetto.dev", flag_values=flag_values)
        flags.DEFINE_string("text", None, "a file to cut the prompt from", flag_values=flag_values)
        flags.DEFINE_integer("runs", 5, "runs of the measured chunk", lower_bound=1, flag_values=flag_values)
        flags.DEFINE_bool("json", False, "print one JSON object", flag_values=flag_values)
        define_session_flags(flag_values)
        define_pipeline_flags(flag_values)

    def run(self, positional: list[str], flag_values: flags.FlagValues) -> int:
        from shadowattn.models.bundle import read_manifest
        from shadowattn.runtime.executor_pipelined import choose_bucket
        from shadowattn.runtime.scheduling.planners import plan
        from shadowattn.runtime.scheduling.profiled import Shape, problem

        bundle = bundle_argument(positional, f"shadowattn schedule {self.usage}")
        _check_usage(flag_values)
        manifest = read_manifest(bundle)
        kv_len = _kv_len(flag_values, manifest)
        profile = _profile(bundle, manifest, flag_values, kv_len)
        chunk = manifest.prefill_chunks[-1] if flag_values.soc is None else profile.launch[0].chunk
        shape = Shape(chunk, choose_bucket(manifest.seq_lens, kv_len), kv_len)
        planned = problem(profile, manifest.model, shape, (0,) * manifest.model.num_heads)
        chosen = plan(planned, "best" if flag_values.planner == "off" else flag_values.planner)
        report = _report(bundle, manifest, profile, shape) | {"planners": _planners(planned), "plan": _plan(chosen)}
        measured: Sequence[Span] = ()
        if flag_values.soc is None:
            measured, report["measured"] = _measure(bundle, flag_values, profile, shape, chosen)
        if flag_values.png:
            _draw(Path(flag_values.png), report, chosen, measured)
        print(json.dumps(report, indent=1) if flag_values.json else _text(report))
        return 0


def _check_usage(flag_values: flags.FlagValues) -> None:
    """Raises flags.Error, ValueError."""
    from shadowattn.runtime.tracing import gantt

    pipelined_only(flag_values, "schedule")
    for name, what in (("trace", "of a measured chunk"), ("scales", "measured of a chunk")):
        if flag_values.soc is not None and flag_values[name].present:
            raise flags.Error(f"--{name} is {what}, --soc runs nothing; leave one of them out")
    if flag_values.png and not gantt.can_plot():
        raise ValueError(gantt.MISSING)
    for name in ("png", "trace"):
        path = flag_values[name].value
        if path and not Path(path).absolute().parent.is_dir():
            raise flags.Error(f"--{name}: wanted a file in a folder that exists, got {path!r}")


def _kv_len(flag_values: flags.FlagValues, manifest: "Manifest") -> int:
    most, chunk = flag_values.max_length or manifest.max_length, manifest.prefill_chunks[-1]
    kv_len = flag_values.kv_len or min(4096, most)
    if not chunk <= kv_len <= most:
        raise ValueError(f"--kv_len: wanted {chunk:,} (a chunk) to {most:,} (the session's positions), got {kv_len:,}")
    return int(kv_len)


def _profile(bundle: Path, manifest: "Manifest", flag_values: flags.FlagValues, kv_len: int) -> "LatencyProfile":
    """The one there is; else one measured now, at this length. With --soc that of a phone."""
    from shadowattn.runtime.pipeline.profiles import soc_profile

    profile = found_profile(bundle, flag_values) or measure(bundle, flag_values, (kv_len,))
    if flag_values.soc is not None:
        return soc_profile(flag_values.soc, profile)
    if profile.simulated:
        where = "beside the bundle" if flag_values.profile is None else flag_values.profile
        raise ValueError(f"the profile {where} is simulated, and a chunk would be measured; give it as --soc instead")
    return profile


def _planners(problem: "Problem") -> list[dict[str, Any]]:
    """What each planner makes of it."""
    from shadowattn.runtime.scheduling.bounds import one_after_the_other, speedup_bound
    from shadowattn.runtime.scheduling.planners import PLANNERS, plan

    rows = []
    for name in PLANNERS:
        try:
            found = plan(problem, name)
        except ValueError:  # exhaustive, of too many groups
            continue
        alone = one_after_the_other(problem, found.groups)
        rows.append(
            {
                "planner": name,
                "launches": len(found.groups),
                "makespan_ms": 1e3 * found.makespan,
                "one_after_the_other_ms": 1e3 * alone,
                "gain": alone / found.makespan,
                "bound": speedup_bound(problem, found.groups),
            }
        )
    return rows


def _plan(schedule: "Schedule") -> dict[str, Any]:
    slots = [dataclasses.asdict(slot) for slot in schedule.slots]
    groups = [dataclasses.asdict(group) for group in schedule.groups]
    return {"order": schedule.planner, "makespan_ms": 1e3 * schedule.makespan, "groups": groups, "slots": slots}


def _measure(
    bundle: Path, flag_values: flags.FlagValues, profile: "LatencyProfile", shape: "Shape", chosen: "Schedule"
) -> "tuple[Sequence[Span], dict[str, Any]]":
    """Spans of one layer, the one in the middle; and how long the layers took. Writes the trace of the last run."""
    from shadowattn.runtime.pipeline.measured import measure_chunk
    from shadowattn.runtime.tracing.perfetto import write_perfetto
    from shadowattn.runtime.workload import from_text

    options = npu_options(flag_values) | plan_options(flag_values) | {"profile": profile}
    with open_session(bundle, flag_values, executor="pipelined", pipeline=pipeline_options(**options)) as session:
        tokens = from_text(bundle, session.manifest, flag_values.text, (shape.kv_len,), 0).items[0].prompt
        taken = measure_chunk(session, tokens, shape.chunk, flag_values.runs)
    errors = [abs(chosen.makespan - seconds) / seconds for seconds in taken.layers]
    if flag_values.trace:
        about = {"bundle": str(bundle), "kv_len": shape.kv_len, "estimates": profile.npu}
        write_perfetto(Path(flag_values.trace), taken.spans, simulated=False, metadata=about)
    facts = {
        "layer_ms": 1e3 * statistics.median(taken.layers),
        "error_percent": 100 * statistics.median(errors),
        "runs": flag_values.runs,
        "overlaps": taken.overlaps,
        "gain": statistics.median(record.gained for record in taken.records),
        "bound": statistics.median(record.bound for record in taken.records),
    }
    return taken.middle_layer(), facts


def _draw(path: Path, report: dict[str, Any], chosen: "Schedule", measured: "Sequence[Span]") -> None:
    from shadowattn.runtime.tracing.gantt import draw_gantt
    from shadowattn.runtime.tracing.predicted import predicted_spans

    title = f"{report['model']}, one layer, {report['chunk']} rows at {report['kv_len']:,} positions"
    draw_gantt(path, title, measured, predicted_spans(chosen, report["estimates"]), simulated=report["simulated"])


def _report(bundle: Path, manifest: "Manifest", profile: "LatencyProfile", shape: "Shape") -> dict[str, Any]:
    return {
        "bundle": str(bundle),
        "model": manifest.name,
        "simulated": profile.simulated,
        "machine": profile.machine,
        "estimates": profile.npu,
        "source": profile.source,
        **dataclasses.asdict(shape),
    }


def _text(report: dict[str, Any]) -> str:
    from shadowattn.runtime.table import format_table

    head = (
        f"{report['model']}: one layer, {report['chunk']} rows that end at position {report['kv_len']:,}, bucket "
        f"{report['seq_len']:,}\n{report['machine']}, estimates: {report['estimates']}; {report['source']}"
    )
    if report["simulated"]:
        head = f"SIMULATED: {head}"
    rows = [list(row.values()) for row in report["planners"]]
    header = ["planner", "launches", "makespan ms", "one after the other ms", "gain", "bound"]
    plan = report["plan"]
    ends = {(slot["group"], slot["stage"]): slot for slot in plan["slots"]}
    groups = [
        [index, ",".join(map(str, group["heads"])), group["bucket"]]
        + [1e3 * ends[index, stage][end] for stage, end in _COLUMNS]
        for index, group in enumerate(plan["groups"])
    ]
    names = ["launch", "heads", "bucket", *(f"{stage} {end} ms" for stage, end in _COLUMNS)]
    parts = [head, "", format_table(header, rows), "", f"the plan ({plan['order']}):", format_table(names, groups)]
    if "measured" in report:
        parts += ["", _measured_line(report["measured"], plan["makespan_ms"])]
    return "\n".join(parts)


_COLUMNS = (("estimate", "start"), ("estimate", "end"), ("select", "start"), ("attend", "end"))


def _measured_line(measured: dict[str, Any], predicted: float) -> str:
    how = "" if measured["overlaps"] else " (one after the other: one thread has no core left for the host's estimates)"
    return (
        f"measured{how}: {measured['layer_ms']:.3g} ms a layer, predicted {predicted:.3g} ms, median error over layers "
        f"and {measured['runs']} runs {measured['error_percent']:.0f} %; gain {measured['gain']:.2f} of at most "
        f"{measured['bound']:.2f}"
    )


COMMAND = ScheduleCommand()
