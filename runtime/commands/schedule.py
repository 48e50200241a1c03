"""`shadowattn schedule`: the schedule of one layer and chunk, what it should gain, and what it does gain here."""

import dataclasses
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from shadowattn.runtime.commands.output import print_json
from shadowattn.runtime.commands.pipeline_flags import (
    PIPELINE_RESEARCH,
    check_pipeline_flags,
    define_pipeline_flags,
    found_profile,
    output_file,
    pipeline_options,
    pipelined,
    pipelined_only,
)
from shadowattn.runtime.commands.profile import measure
from shadowattn.runtime.commands.session_flags import (
    SESSION_RESEARCH,
    bundle_argument,
    check_bundle,
    check_files,
    define_session_flags,
    open_session,
)

if TYPE_CHECKING:  # loaded by run(): `--help` needs none of it
    from shadowattn.runtime.pipeline.measure import ChunkRun
    from shadowattn.runtime.pipeline.schedule import Schedule
    from shadowattn.runtime.session.session import Session

Facts = dict[str, Any]


class ScheduleCommand:
    """The subcommand; the contract is in shadowattn.runtime.cli."""

    name = "schedule"
    summary = "the order of a layer's head groups; predicted beside measured"
    usage = "BUNDLE [flags]"
    example = (
        "shadowattn schedule smollm2.bundle --kv_len=4096 --png=plan.png\n"
        "shadowattn schedule smollm2.bundle --kv_len=2048 --trace=chunk.json    # opens in ui.perfetto.dev\n"
        "shadowattn schedule smollm2.bundle --scales=nearest --npu='delegate:libvendor.so?backend=htp'"
    )
    research = (*SESSION_RESEARCH, *PIPELINE_RESEARCH)

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        kv_len = "positions in the cache after the chunk; default: 4096, or what fits"
        flags.DEFINE_integer("kv_len", None, kv_len, lower_bound=1, flag_values=flag_values)
        flags.DEFINE_string("png", None, "draw predicted above measured; needs matplotlib", flag_values=flag_values)
        flags.DEFINE_string("text", None, "a file to cut the prompt from", flag_values=flag_values)
        flags.DEFINE_integer("runs", 5, "runs of the measured chunk", lower_bound=1, flag_values=flag_values)
        flags.DEFINE_bool("json", False, "print one JSON object", flag_values=flag_values)
        define_session_flags(flag_values)
        define_pipeline_flags(flag_values)

    def run(self, positional: list[str], flag_values: flags.FlagValues) -> int:
        bundle = bundle_argument(positional, flag_values, f"shadowattn schedule {self.usage}")
        pipelined_only(flag_values, "schedule")
        check_pipeline_flags(flag_values)
        png, trace = (output_file(name, flag_values[name].value) for name in ("png", "trace"))
        check_bundle(bundle)
        check_files(flag_values, "text")
        from shadowattn.runtime.pipeline import gantt

        if png and not gantt.can_plot():
            raise ValueError(gantt.MISSING)
        report, run, schedule = _measure(bundle, flag_values, trace)
        if png:
            title = f"{report['model']}, one layer, {report['chunk']} rows at {report['kv_len']:,} positions"
            measured = run.layer(report["measured"]["layer"])
            gantt.draw_gantt(png, title, gantt.predicted_spans(schedule, report["estimates"]), measured)
        print_json(report) if flag_values.json else print(_text(report))
        return 0


def _measure(bundle: Path, flag_values: flags.FlagValues, trace: Path | None) -> "tuple[Facts, ChunkRun, Schedule]":
    """What to report, the last run of the chunk, and the schedule of its layer that took the median time."""
    from shadowattn.models.bundle import read_manifest

    manifest = read_manifest(bundle)
    most, chunk = flag_values.max_length or manifest.max_length, manifest.prefill_chunks[-1]
    kv_len = flag_values.kv_len or min(4096, most)
    if not chunk <= kv_len <= most:
        raise ValueError(f"--kv_len: wanted {chunk:,} (a chunk) to {most:,} (the session's positions), got {kv_len:,}")
    from shadowattn.runtime.measure.workload import from_text
    from shadowattn.runtime.pipeline.measure import run_chunk
    from shadowattn.runtime.pipeline.trace import traced

    profile = found_profile(bundle, flag_values) or measure(bundle, flag_values, (kv_len,))
    tokens = from_text(bundle, manifest, flag_values.text, (kv_len,), 0).items[0].prompt
    with open_session(bundle, flag_values, **pipelined(pipeline_options(flag_values, profile))) as session:
        session.prefill(tokens[:-chunk])
        session.reset_stats()
        runs = []
        with traced(session.pipelined.clock, trace, bundle=str(bundle), kv_len=kv_len, estimates=profile.npu):
            for _ in range(flag_values.runs):
                session.rewind(kv_len - chunk)
                runs.append(run_chunk(session, tokens[-chunk:]))
        took = runs[-1].seconds("groups")
        layer = sorted(range(len(took)), key=took.__getitem__)[len(took) // 2]
        schedule = session.pipelined.schedules[layer]
        facts = {
            "bundle": str(bundle),
            "model": manifest.name,
            "machine": profile.machine,
            "estimates": profile.npu,
            "source": profile.source,
            "chunk": chunk,
            "seq_len": runs[-1].record.seq_len,
            "kv_len": kv_len,
            "planner": flag_values.planner,
            "predicted_ms": 1e3 * schedule.makespan,
            "groups": [
                dataclasses.asdict(group) | {"times": time._asdict()}
                for group, time in zip(schedule.groups, schedule.times, strict=True)
            ],
            "measured": {"layer": layer, **_chunk_facts(session, runs)},
        }
    return facts, runs[-1], schedule


def _chunk_facts(session: "Session", runs: "list[ChunkRun]") -> Facts:
    """What the chunk took, which buckets heads took, what planning took, and what ran where."""
    executor, records = session.pipelined, [run.record for run in runs]
    record, planner = executor.record, executor.planner
    predicted = records[-1].predicted
    assert predicted is not None, "a profile is of the longest chunk"
    prefix = f"estimate_{records[-1].chunk}_{records[-1].seq_len}_"
    return {
        "layer_ms": 1e3 * statistics.median(taken for run in runs for taken in run.seconds("groups")),
        "chunk_ms": 1e3 * statistics.median(one.measured for one in records),
        "chunk_ms_of_runs": [1e3 * one.measured for one in records],
        "chunk_predicted_ms": 1e3 * predicted,
        "error_percent": 100 * statistics.median(abs(predicted - one.measured) / one.measured for one in records),
        "runs": len(runs),
        "gain": statistics.median(one.gained for one in records),
        "bound": statistics.median(one.bound for one in records),
        "overlaps": executor.overlaps,
        "buckets": record.buckets.sum(axis=0).tolist(),
        "clamped": record.clamped,
        "outside": record.outside,
        "schedules": {"made": planner.made, "reused": planner.reused, "ms": 1e3 * planner.seconds},
        "delegation": [row for row in executor.estimator.report() if row["graph"].startswith(prefix)],
    }


# --- for people ---


def _text(report: Facts) -> str:
    from shadowattn.runtime.measure.table import format_table

    groups = report["groups"]
    table = [
        [index, ",".join(map(str, group["heads"])), group["bucket"], *(1e3 * at for at in group["times"].values())]
        for index, group in enumerate(groups)
    ]
    header = ["launch", "heads", "bucket", *(f"{at.replace('_', ' ')} ms" for at in groups[0]["times"])]
    return "\n".join(
        [
            f"{report['model']}: one layer, {report['chunk']} rows that end at position {report['kv_len']:,}, bucket "
            f"{report['seq_len']:,}",
            f"{report['machine']}, estimates: {report['estimates']}; {report['source']}",
            "",
            f"predicted, planner {report['planner']}: {report['predicted_ms']:.3g} ms",
            format_table(header, table),
            "",
            *_measured(report["measured"]),
        ]
    )


def _measured(facts: Facts) -> list[str]:
    from shadowattn.runtime.measure.table import format_table

    how = "" if facts["overlaps"] else " (one after the other: the planner is off, or the host has one thread)"
    plans, graphs, times = facts["schedules"], facts["delegation"], facts["chunk_ms_of_runs"]
    return [
        f"measured{how}: {facts['layer_ms']:.3g} ms a layer, median; the schedule above ran in layer {facts['layer']}",
        f"the chunk: {facts['chunk_ms']:,.1f} ms, median of {facts['runs']} runs "
        f"({min(times):,.1f} to {max(times):,.1f}), predicted {facts['chunk_predicted_ms']:,.1f} ms, median error "
        f"{facts['error_percent']:.0f} %; gain {facts['gain']:.2f} of at most {facts['bound']:.2f}",
        f"planning: {plans['made']} schedules made, {plans['reused']} times reused, {plans['ms']:,.1f} ms in all "
        f"({plans['ms'] / (plans['made'] + plans['reused']):.2g} ms a layer)",
        *_buckets(facts),
        "",
        format_table(list(graphs[0]), [list(row.values()) for row in graphs]),
    ]


def _buckets(facts: Facts) -> list[str]:
    """How often, over layers and runs, each head took each scale bucket; 0 is the rank-invariant one."""
    taken = [{bucket: count for bucket, count in enumerate(head) if count} for head in facts["buckets"]]
    if all(set(head) == {0} for head in taken):
        return ["scales: rank-invariant, one graph for all heads"]
    note = f"scale buckets by head (bucket x times); {facts['outside']} scales outside every bucket, "
    counts = (", ".join(f"{bucket} x {count}" for bucket, count in head.items()) for head in taken)
    return [f"{note}{facts['clamped']:,} elements clamped:", *(f"  head {i}: {c}" for i, c in enumerate(counts))]


COMMAND = ScheduleCommand()
