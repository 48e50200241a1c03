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
    from shadowattn.runtime.executor.pipelined import PipelinedExecutor
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
        "shadowattn schedule smollm2.bundle --scales=nearest --npu='delegate:libvendor.so?backend=htp'\n"
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
        from shadowattn.runtime.executor.pipelined import choose_bucket
        from shadowattn.runtime.scheduling.profiled import Shape, problem

        bundle = bundle_argument(positional, f"shadowattn schedule {self.usage}")
        _check_usage(flag_values)
        manifest = read_manifest(bundle)
        kv_len = _kv_len(flag_values, manifest)
        profile = _profile(bundle, manifest, flag_values, kv_len)
        chunk = manifest.prefill_chunks[-1] if flag_values.soc is None else profile.launch[0].chunk
        shape = Shape(chunk, choose_bucket(manifest.seq_lens, kv_len), kv_len)
        planned = problem(profile, manifest.model, shape, (0,) * manifest.model.num_heads)
        facts: dict[str, Any] = {}
        spans: Sequence[Span] = ()
        if flag_values.soc is None:
            chosen, spans, facts["measured"] = _measure(bundle, flag_values, profile, shape)
            planned = dataclasses.replace(planned, buckets=chosen.buckets())
        else:
            chosen = _plan(planned, flag_values.planner)
        plans = {"planners": _planners(planned), "plan": _facts(chosen)}
        report = _report(bundle, manifest, profile, shape) | plans | facts
        if flag_values.png:
            _draw(Path(flag_values.png), report, chosen, spans)
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


def _plan(problem: "Problem", planner: str) -> "Schedule":
    """off: the given order without overlap, which one estimate buffer is."""
    from shadowattn.runtime.scheduling.planners import plan

    if planner != "off":
        return plan(problem, planner)
    return plan(dataclasses.replace(problem, depth=1, handover_seconds=0.0), "fifo")


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


def _facts(schedule: "Schedule") -> dict[str, Any]:
    slots = [dataclasses.asdict(slot) for slot in schedule.slots]
    groups = [dataclasses.asdict(group) for group in schedule.groups]
    return {"order": schedule.planner, "makespan_ms": 1e3 * schedule.makespan, "groups": groups, "slots": slots}


def _measure(
    bundle: Path, flag_values: flags.FlagValues, profile: "LatencyProfile", shape: "Shape"
) -> "tuple[Schedule, list[Span], dict[str, Any]]":
    """The plan and the spans of one layer, the one that took the median time; and what the chunk took and did. Writes
    the trace of the last run."""
    from shadowattn.runtime.measure.workload import from_text
    from shadowattn.runtime.pipeline.measured import measure_chunk
    from shadowattn.runtime.tracing.perfetto import write_perfetto

    options = npu_options(flag_values) | plan_options(flag_values) | {"profile": profile}
    with open_session(bundle, flag_values, executor="pipelined", pipeline=pipeline_options(**options)) as session:
        tokens = from_text(bundle, session.manifest, flag_values.text, (shape.kv_len,), 0).items[0].prompt
        taken = measure_chunk(session, tokens, shape.chunk, flag_values.runs)
        did = _what_it_did(session.pipelined, shape)
    if flag_values.trace:
        about = {"bundle": str(bundle), "kv_len": shape.kv_len, "estimates": profile.npu}
        write_perfetto(Path(flag_values.trace), taken.spans, simulated=False, metadata=about)
    layer, spans = taken.middle_layer()
    facts = {
        "layer": layer,
        "layer_ms": 1e3 * statistics.median(taken.layers),
        "chunk_ms": 1e3 * statistics.median(record.measured for record in taken.records),
        "chunk_ms_of_runs": [1e3 * record.measured for record in taken.records],
        "chunk_predicted_ms": 1e3 * sum(schedule.makespan for schedule in taken.schedules),
        "error_percent": 100 * taken.error(),
        "runs": flag_values.runs,
        "gain": statistics.median(record.gained for record in taken.records),
        "bound": statistics.median(record.bound for record in taken.records),
    }
    return taken.schedules[layer], spans, facts | did


def _what_it_did(executor: "PipelinedExecutor", shape: "Shape") -> dict[str, Any]:
    """Which buckets heads took, what planning took, and what ran where: of the graphs of that shape."""
    record, plans = executor.record, executor.plans
    prefix = f"estimate_{shape.chunk}_{shape.seq_len}_"
    return {
        "overlaps": executor.overlaps,
        "buckets": record.buckets.sum(axis=0).tolist(),
        "clamped": record.clamped,
        "outside": record.outside,
        "plans": {"made": plans.misses, "reused": plans.hits, "ms": 1e3 * plans.seconds},
        "delegation": [row._asdict() for row in executor.delegation() if row.graph.startswith(prefix)],
    }


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
    from shadowattn.runtime.measure.table import format_table

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
        parts += ["", *_measured(report["measured"])]
    return "\n".join(parts)


_COLUMNS = (("estimate", "start"), ("estimate", "end"), ("select", "start"), ("attend", "end"))


def _measured(facts: dict[str, Any]) -> list[str]:
    from shadowattn.runtime.measure.table import format_table

    how = "" if facts["overlaps"] else " (one after the other: the planner is off, or the host has one thread)"
    plans, graphs, times = facts["plans"], facts["delegation"], facts["chunk_ms_of_runs"]
    return [
        f"measured{how}: {facts['layer_ms']:.3g} ms a layer, median; the plan above ran in layer {facts['layer']}",
        f"the chunk: {facts['chunk_ms']:,.1f} ms, median of {facts['runs']} runs "
        f"({min(times):,.1f} to {max(times):,.1f}), predicted {facts['chunk_predicted_ms']:,.1f} ms, median error "
        f"{facts['error_percent']:.0f} %; gain {facts['gain']:.2f} of at most {facts['bound']:.2f}",
        f"planning: {plans['made']} plans made, {plans['reused']} times reused, {plans['ms']:,.1f} ms in all "
        f"({plans['ms'] / (plans['made'] + plans['reused']):.2g} ms a layer)",
        *_buckets(facts),
        "",
        format_table(list(graphs[0]), [list(row.values()) for row in graphs]),
    ]


def _buckets(facts: dict[str, Any]) -> list[str]:
    """How often, over layers and runs, each head took each scale bucket; 0 is the rank-invariant one."""
    taken = [{bucket: count for bucket, count in enumerate(head) if count} for head in facts["buckets"]]
    if all(set(head) == {0} for head in taken):
        return ["scales: rank-invariant, one graph for all heads"]
    lines = [
        f"  head {index}: {', '.join(f'{bucket} x {count}' for bucket, count in head.items())}"
        for index, head in enumerate(taken)
    ]
    note = f"scale buckets by head (bucket x times); {facts['outside']} scales outside every bucket, "
    return [f"{note}{facts['clamped']:,} elements clamped:", *lines]


COMMAND = ScheduleCommand()
