"""The paper's ablation of its pipeline (arXiv 2508.16703), here: one prompt, chunk by chunk, every way interleaved.

PYTHONPATH=build/dev .venv/bin/python benchmarks/pipeline_ablation.py .demo/smollm2.bundle --lengths=2048,4096
    [--launch_ms=1] [--runs=3] [--num_threads=2]

Only the head groups are timed: launches, select and attend; linear graphs and appending are the same in all. A row:
milliseconds of all chunks, medians of the runs; the gain over the first way; what overlap can gain at most over the
same launches one after the other, and the share of it that was gained; launches a layer; whether the logits equal the
first way's; KL from the fused executor's next token, mean over the ends of chunks, nats. --launch_ms: EMULATED, the
estimates' worker sleeps so long before every launch of the last three ways.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shadowattn.models.bundle import read_manifest
from shadowattn.runtime import Session
from shadowattn.runtime.measure.comparison import difference
from shadowattn.runtime.measure.table import format_markdown
from shadowattn.runtime.measure.workload import from_text
from shadowattn.runtime.pipeline.executor import PipelinedExecutor
from shadowattn.runtime.pipeline.measure import ChunkRun, measure_profile, run_interleaved
from shadowattn.runtime.pipeline.options import OFF, PipelineOptions
from shadowattn.runtime.pipeline.schedule import PLANNERS

HEADER = ("way", "ms", "gain", "bound", "of it, %", "launches a layer", "same bits", "KL, nats")


class Slow:
    """An Estimator whose runners sleep before every launch, and such a runner."""

    def __init__(self, real: Any, seconds: float) -> None:
        self._real, self._seconds = real, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def runner(self, *which: Any) -> "Slow":
        return Slow(self._real.runner(*which), self._seconds)

    def invoke(self) -> None:
        time.sleep(self._seconds)
        self._real.invoke()


def ways(session: Session, options: PipelineOptions, launch_ms: float) -> dict[str, PipelinedExecutor]:
    """By name; the first is the base."""
    every = session.manifest.model.num_heads

    def way(delay: float = 0.0, **changes: Any) -> PipelinedExecutor:
        own = dataclasses.replace(options, **({"scales": "rank"} | changes))
        if delay and own.profile is not None:
            launch = (dataclasses.replace(t, estimate_seconds=t.estimate_seconds + delay) for t in own.profile.launch)
            own = dataclasses.replace(own, profile=dataclasses.replace(own.profile, launch=tuple(launch)))
        executor = session.make_pipeline(own)
        executor.estimator = Slow(executor.estimator, delay) if delay else executor.estimator  # type: ignore[assignment]
        return executor

    found = {
        "one after the other, a launch a layer": way(planner=OFF, heads=(every,)),
        "one after the other, a launch a head": way(planner=OFF, heads=(1,)),
        **{f"pipeline, {planner}": way(planner=planner) for planner in PLANNERS},
        "pipeline, no head fusion": way(heads=(1,)),
        "pipeline, a launch a layer": way(heads=(every,)),
    }
    if session.pipelined.has_grid:
        found["pipeline, one static scale"] = way(scales="one")
        found["pipeline, nearest of the grid"] = way(scales="nearest")
    if delay := launch_ms / 1000:
        late = f"EMULATED +{launch_ms:g} ms a launch: "
        found[f"{late}one after the other, a launch a layer"] = way(delay, planner=OFF, heads=(every,))
        found[f"{late}pipeline"] = way(delay)
        found[f"{late}pipeline, no head fusion"] = way(delay, heads=(1,))
    return found


def ablate(
    session: Session, fused: Session, tokens: Sequence[int], compared: Mapping[str, PipelinedExecutor], runs: int
) -> list[dict[str, Any]]:
    """A row a way. session: of the pipelined executor; fused: of the other, same settings; tokens: whole chunks, of
    which those without a launch are passed over."""
    chunk = session.manifest.prefill_chunks[-1]
    taken: dict[str, list[list[ChunkRun]]] = {name: [] for name in compared}
    reference = []
    session.reset()
    fused.reset()
    for start in range(0, len(tokens), chunk):
        part = tokens[start : start + chunk]
        logits = fused.prefill(part)
        if session.settings.reads_scores(start + len(part)):
            reference.append(logits)
            for name, taken_now in run_interleaved(session, part, compared, runs).items():
                taken[name].append(taken_now)
        else:
            session.prefill(part)
    layers = session.manifest.model.num_layers
    rows = [_row(chunks, np.stack(reference), layers) for chunks in taken.values()]
    bits = [run.logits for runs in next(iter(taken.values())) for run in runs]
    for row, (name, chunks) in zip(rows, taken.items(), strict=True):
        own = [run.logits for runs in chunks for run in runs]
        same = all(np.array_equal(one, other) for one, other in zip(own, bits, strict=True))
        row |= {"way": name, "gain": rows[0]["ms"] / row["ms"], "same_bits": same}
    return rows


def _row(chunks: Sequence[Sequence[ChunkRun]], reference: np.ndarray, num_layers: int) -> dict[str, Any]:
    def total(field: str) -> float:
        return sum(statistics.median(getattr(run.record, field) for run in runs) for runs in chunks)

    alone, busier = total("estimate") + total("attend"), max(total("estimate"), total("attend"))
    return {
        "ms": 1e3 * total("measured"),
        "bound": alone / busier,
        "of_bound_percent": 100 * busier / total("measured"),
        "launches": total("launches") / len(chunks) / num_layers,
        "kl": difference(reference, np.stack([runs[0].logits for runs in chunks])).kl_mean,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    fields = ("way", "ms", "gain", "bound", "of_bound_percent", "launches", "same_bits", "kl")
    return format_markdown(HEADER, [[row[field] for field in fields] for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--lengths", default="2048,4096")
    parser.add_argument("--launch_ms", type=float, default=0.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--num_threads", type=int, default=2)
    given = parser.parse_args()
    lengths = [int(length) for length in given.lengths.split(",")]
    tokens = from_text(given.bundle, read_manifest(given.bundle), None, [max(lengths)], 0).items[0].prompt
    with (
        Session.open(given.bundle, executor="pipelined", num_threads=given.num_threads) as session,
        Session.open(given.bundle, num_threads=given.num_threads) as fused,
    ):
        profile = measure_profile(session, tokens, sorted(lengths), PipelineOptions(), given.runs)
        compared = ways(session, PipelineOptions(profile=profile), given.launch_ms)
        about = f"{profile.machine}, {profile.source}, estimates by {profile.npu}"
        for length in lengths:
            rows = ablate(session, fused, tokens[:length], compared, given.runs)
            print(f"\n{length:,} tokens; {about}\n\n{table(rows)}", flush=True)


if __name__ == "__main__":
    main()
