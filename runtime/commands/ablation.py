"""`shadowattn bench --ablation`: what each part of the pipeline is worth."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from shadowattn.runtime.commands.pipeline_flags import found_profile, npu_options, pipeline_options, pipelined_only
from shadowattn.runtime.commands.profile import measure
from shadowattn.runtime.commands.session_flags import open_session
from shadowattn.runtime.progress import Progress

if TYPE_CHECKING:  # loaded by run_ablation(): `--help` needs none of it
    from shadowattn.runtime.pipeline.ablation import AblationRow
    from shadowattn.runtime.scheduling.profile import LatencyProfile

_USUAL_LENGTHS = (2048, 4096)


def run_ablation(bundle: Path, flag_values: flags.FlagValues, asked: tuple[int, ...] | None) -> int:
    """A table per prompt length. asked None: the usual ones that fit. Raises flags.Error, ValueError."""
    _check_usage(flag_values)
    from shadowattn.models.bundle import read_manifest

    manifest = read_manifest(bundle)
    chunk, most = manifest.prefill_chunks[-1], flag_values.max_length or manifest.max_length
    lengths = asked or tuple(n for n in _USUAL_LENGTHS if n <= most) or (most // chunk * chunk,)
    for length in lengths:
        if length % chunk or not chunk <= length <= most:
            raise ValueError(f"--prompt_lengths: wanted multiples of {chunk} up to {most:,}, got {length:,}")
    profile = found_profile(bundle, flag_values) or measure(bundle, flag_values, None)
    tables = {length: _rows(bundle, flag_values, profile, length) for length in lengths}
    report: dict[str, Any] = {
        "bundle": str(bundle),
        "model": manifest.name,
        "machine": profile.machine,
        "estimates": profile.npu,
        "num_threads": flag_values.num_threads,
        "runs": flag_values.runs,
        "prompts": {length: [dataclasses.asdict(row) for row in rows] for length, rows in tables.items()},
    }
    print(json.dumps(report, indent=1) if flag_values.json else _text(report, tables))
    return 0


def _check_usage(flag_values: flags.FlagValues) -> None:
    """Raises flags.Error for what an ablation does not read."""
    pipelined_only(flag_values, "--ablation")
    for name in ("planner", "scales"):
        if flag_values[name].present:
            raise flags.Error(f"--ablation goes through all of --{name} by itself; leave it out")
    for name in ("prompt_file", "chat", "decode_tokens"):
        if flag_values[name].present:
            raise flags.Error(f"--{name} is not of --ablation, which prefills --prompt_lengths of --text; leave it out")


def _rows(bundle: Path, flag_values: flags.FlagValues, profile: "LatencyProfile", length: int) -> "list[AblationRow]":
    from shadowattn.runtime.measure.workload import from_text
    from shadowattn.runtime.pipeline.ablation import ablate, ways
    from shadowattn.runtime.tracing.perfetto import write_perfetto
    from shadowattn.runtime.tracing.trace import Trace

    options = pipeline_options(**npu_options(flag_values), profile=profile)
    with (
        open_session(bundle, flag_values, executor="pipelined", pipeline=options) as session,
        open_session(bundle, flag_values, executor="fused") as fused,
        Progress("ablation", "tokens") as progress,
    ):
        tokens = from_text(bundle, session.manifest, flag_values.text, (length,), 0).items[0].prompt
        model = session.manifest.model
        compared = ways(options, model.num_heads, session.pipelined.has_grid, flag_values.launch_ms)
        trace = session.pipelined.clock.trace = Trace() if flag_values.trace else None
        total, done = length * len(compared) * (flag_values.runs + 1), 0

        def advance(tokens_done: int, name: str) -> None:
            nonlocal done
            done += tokens_done
            progress.update(done, total, f"{length:,} tokens: {name}")

        rows = ablate(session, fused, tokens, compared, flag_values.runs, advance)
    if trace is not None:
        about = {"model": session.manifest.name, "prompt": length}
        write_perfetto(Path(flag_values.trace), trace.spans(), flag_values.launch_ms > 0, about)
    return rows


def _text(report: dict[str, Any], tables: "dict[int, list[AblationRow]]") -> str:
    from shadowattn.runtime.measure.table import format_table

    parts = [
        f"{report['model']}, {report['machine']}, estimates: {report['estimates']}; medians of {report['runs']} runs "
        "of every chunk, every way in turn; head groups only (launches, select, attend)"
    ]
    header = [
        *("way", "ms", "estimates ms", "select + attend ms", "launches a layer", "gain", "bound", "of it %"),
        *("same bits", "KL to fused, nats"),
    ]
    for length, rows in tables.items():
        cells = [
            (
                *(row.way, 1e3 * row.seconds, 1e3 * row.estimate, 1e3 * row.attend, row.launches, row.gain),
                *(row.bound, 100 * row.of_bound, row.same_bits, row.kl),
            )
            for row in rows
        ]
        parts += ["", f"prompt of {length:,} tokens", format_table(header, cells)]
    return "\n".join(parts)
