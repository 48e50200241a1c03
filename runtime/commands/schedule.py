"""`shadowattn schedule`: the schedule of one layer and chunk, what it should gain, and what it does gain here."""

import dataclasses
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from shadowattn.runtime.commands.output import print_json
from shadowattn.runtime.commands.pipeline_flags import (
    PIPELINE_RESEARCH,
    define_pipeline_flags,
    found_profile,
    pipeline_bundle,
    pipeline_options,
)
from shadowattn.runtime.commands.profile import measure
from shadowattn.runtime.commands.session_flags import SESSION_RESEARCH, define_session_flags, open_session

if TYPE_CHECKING:  # loaded by run(): `--help` needs none of it
    from shadowattn.runtime.pipeline.measure import ChunkRun
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
        bundle = pipeline_bundle(self.name, self.usage, positional, flag_values)
        png, trace = (name and Path(name) for name in (flag_values.png, flag_values.trace))
        from shadowattn.runtime.pipeline import gantt

        if png and not gantt.can_plot():
            raise ValueError(gantt.MISSING)
        report = _measure(bundle, flag_values, png, trace)
        print_json(report) if flag_values.json else print(_text(report))
        return 0


def _measure(bundle: Path, flag_values: flags.FlagValues, png: Path | None, trace: Path | None) -> Facts:
    from shadowattn.models.bundle import read_manifest

    manifest = read_manifest(bundle)
    chunk, most = manifest.prefill_chunks[-1], flag_values.max_length or manifest.max_length
    kv_len = flag_values.kv_len or min(4096, most)
    if not chunk <= kv_len <= most:
        raise ValueError(f"--kv_len: wanted {chunk:,} (a chunk) to {most:,} (the session's positions), got {kv_len:,}")
    from shadowattn.runtime.measure.workload import from_text
    from shadowattn.runtime.pipeline import gantt
    from shadowattn.runtime.pipeline.measure import run_chunk
    from shadowattn.runtime.pipeline.trace import traced

    profile = found_profile(bundle, flag_values) or measure(bundle, flag_values, (kv_len,))
    tokens = from_text(bundle, manifest, flag_values.text, (kv_len,), 0).items[0].prompt
    about = {"bundle": str(bundle), "model": manifest.name, "kv_len": kv_len, "estimates": profile.npu}
    options = pipeline_options(flag_values, profile)
    with open_session(bundle, flag_values, executor="pipelined", pipeline=options) as session:
        session.prefill(tokens[:-chunk])
        session.reset_stats()
        runs = []
        with traced(session.pipelined.clock, trace, **about):
            for _ in range(flag_values.runs):
                session.rewind(kv_len - chunk)
                runs.append(run_chunk(session, tokens[-chunk:]))
        report = about | {"machine": profile.machine, "source": profile.source} | _report(session, runs)
        if png:
            layer = int(report["layer"])
            predicted = gantt.predicted_spans(session.pipelined.schedules[layer], profile.npu)
            gantt.draw_gantt(png, _title(report), predicted, runs[-1].layer(layer))
    return report


def _title(report: Facts) -> str:
    return f"{report['model']}, one layer, {report['chunk']} rows that end at position {report['kv_len']:,}"


def _report(session: "Session", runs: "list[ChunkRun]") -> Facts:
    """The schedule of the last run's layer that took the median time; what the chunk took, which buckets heads took,
    what planning took, and what ran where."""
    executor, records = session.pipelined, [run.record for run in runs]
    record, planner, last = executor.record, executor.planner, records[-1]
    cache = planner.kept.cache_info()
    assert last.predicted is not None, "a profile is of the longest chunk"
    took = runs[-1].seconds("groups")
    layer = sorted(range(len(took)), key=took.__getitem__)[len(took) // 2]
    schedule = executor.schedules[layer]
    groups = zip(schedule.groups, schedule.times, strict=True)
    errors = [abs(last.predicted - one.measured) / one.measured for one in records]
    return {
        **{name: getattr(last, name) for name in ("chunk", "seq_len")},
        "layer": layer,
        "groups": [dataclasses.asdict(group) | {"times": time._asdict()} for group, time in groups],
        "layer_predicted_ms": 1e3 * schedule.makespan,
        "layer_ms": 1e3 * statistics.median(taken for run in runs for taken in run.seconds("groups")),
        "chunk_predicted_ms": 1e3 * last.predicted,
        "chunk_ms": 1e3 * statistics.median(one.measured for one in records),
        "chunk_ms_of_runs": [1e3 * one.measured for one in records],
        "error_percent": 100 * statistics.median(errors),
        **{name: statistics.median(getattr(one, name) for one in records) for name in ("gained", "bound")},
        "overlaps": executor.overlaps,
        "buckets": record.buckets.sum(axis=0).tolist(),
        **{name: getattr(record, name) for name in ("clamped", "outside")},
        "schedules": {"made": cache.misses, "reused": cache.hits, "ms": 1e3 * planner.seconds},
        "delegation": executor.estimator.report(f"estimate_{last.chunk}_{last.seq_len}_"),
    }


def _text(report: Facts) -> str:
    """For people."""
    from shadowattn.runtime.measure.table import format_table

    groups, graphs, plans = report["groups"], report["delegation"], report["schedules"]
    header = ["launch", "heads", "bucket", *(f"{at.replace('_', ' ')} ms" for at in groups[0]["times"])]
    rows = [
        [index, ",".join(map(str, group["heads"])), group["bucket"], *(1e3 * at for at in group["times"].values())]
        for index, group in enumerate(groups)
    ]
    how = "" if report["overlaps"] else " (one after the other: the planner is off, or the host has one thread)"
    times = report["chunk_ms_of_runs"]
    lines = [
        f"{_title(report)}, bucket {report['seq_len']:,}",
        f"{report['machine']}, estimates: {report['estimates']}; {report['source']}",
        "",
        format_table(header, rows),
        "",
        f"a layer{how}: {report['layer_ms']:.3g} ms, median; the schedule above ran in layer {report['layer']}, "
        f"predicted {report['layer_predicted_ms']:.3g} ms",
        f"the chunk: {report['chunk_ms']:,.1f} ms, median of {len(times)} runs ({min(times):,.1f} to {max(times):,.1f})"
        f", predicted {report['chunk_predicted_ms']:,.1f} ms, median error {report['error_percent']:.0f} %; gain "
        f"{report['gained']:.2f} of at most {report['bound']:.2f}",
        f"planning: {plans['made']} schedules made, {plans['reused']} times reused, {plans['ms']:,.1f} ms in all",
        *_buckets(report),
        "",
        format_table(list(graphs[0]), [list(row.values()) for row in graphs]),
    ]
    return "\n".join(lines)


def _buckets(report: Facts) -> list[str]:
    """How often, over layers and runs, each head took each scale bucket; 0 is the rank-invariant one."""
    taken = [{bucket: count for bucket, count in enumerate(head) if count} for head in report["buckets"]]
    if all(set(head) == {0} for head in taken):
        return ["scales: rank-invariant, one graph for all heads"]
    note = f"scale buckets by head (bucket x times); {report['outside']} scales outside every bucket, "
    counts = (", ".join(f"{bucket} x {count}" for bucket, count in head.items()) for head in taken)
    return [f"{note}{report['clamped']:,} elements clamped:", *(f"  head {i}: {c}" for i, c in enumerate(counts))]


COMMAND = ScheduleCommand()
