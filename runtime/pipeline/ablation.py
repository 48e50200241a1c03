"""The paper's ablation of its pipeline (arXiv 2508.16703), here: one prompt, chunk by chunk, every way in turn.

Only the head groups are timed: launches, select and attend; linear graphs and appending are the same in all.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from shadowattn.runtime.measure.comparison import difference
from shadowattn.runtime.pipeline.options import OFF, PipelineOptions
from shadowattn.runtime.pipeline.turns import Turn, median_of, take_turns
from shadowattn.runtime.session.session import Session

BASE = "one after the other, a launch a layer"


@dataclasses.dataclass(frozen=True)
class AblationRow:
    """One way: seconds of all chunks' head groups, medians of the runs; estimate, attend: the workers' sums; launches a
    layer; gain: of the base's seconds; bound, of_bound: what overlap can gain at most over the same launches one after
    the other, and the share of it that was gained. same_bits: logits equal the base's; kl: of the fused executor's next
    token from this one's, mean over the ends of chunks, nats."""

    way: str
    seconds: float
    estimate: float
    attend: float
    launches: float
    gain: float
    bound: float
    of_bound: float
    same_bits: bool
    kl: float


def ways(options: PipelineOptions, num_heads: int, has_grid: bool, emulated_ms: float) -> dict[str, PipelineOptions]:
    """Compared by name. emulated_ms: EMULATED milliseconds of a launch, in the last three; 0: without these."""

    def way(**changes: object) -> PipelineOptions:
        return dataclasses.replace(options, **({"scales": "rank"} | changes))  # type: ignore[arg-type]

    found = {
        BASE: way(planner=OFF, heads=(num_heads,)),
        "one after the other, a launch a head": way(planner=OFF, heads=(1,)),
    }
    for planner in ("fifo", "greedy", "johnson", "gilmore_gomory", "best"):
        found[f"pipeline, {planner}"] = way(planner=planner)
    found["pipeline, best, no head fusion"] = way(planner="best", heads=(1,))
    found["pipeline, best, a launch a layer"] = way(planner="best", heads=(num_heads,))
    if has_grid:
        found["pipeline, best, one static scale"] = way(planner="best", scales="one")
        found["pipeline, best, nearest of the grid"] = way(planner="best", scales="nearest")
    if emulated_ms:
        note, late = f"EMULATED +{emulated_ms:g} ms a launch", {"launch_ms": emulated_ms}
        found[f"{BASE}, {note}"] = way(planner=OFF, heads=(num_heads,), **late)
        found[f"pipeline, best, {note}"] = way(planner="best", **late)
        found[f"pipeline, best, no head fusion, {note}"] = way(planner="best", heads=(1,), **late)
    return found


def ablate(
    session: Session,
    fused: Session,
    tokens: Sequence[int],
    compared: dict[str, PipelineOptions],
    runs: int,
    advance: Callable[[int, str], None],
) -> list[AblationRow]:
    """session: of the pipelined executor; fused: of the other, same settings. The first way is the base. What all of
    them do is added to the trace of the session's own executor, if it has one.

    tokens: whole chunks. advance(tokens, name) is called after each run. Chunks without a launch are passed over.
    """
    chunk = session.manifest.prefill_chunks[-1]
    made = {name: session.make_pipeline(options) for name, options in compared.items()}
    for executor in made.values():
        executor.clock.trace = session.pipelined.clock.trace
    taken: dict[str, list[list[Turn]]] = {name: [] for name in compared}
    reference = []
    session.reset()
    fused.reset()
    for start in range(0, len(tokens), chunk):
        part = tokens[start : start + chunk]
        logits = fused.prefill(part)
        if not session.settings.reads_scores(start + len(part)):
            session.prefill(part)
            continue
        turns = take_turns(session, part, made, runs, lambda name: advance(chunk, name))
        for name, own in turns.items():
            taken[name].append(own)
        reference.append(logits)
    return _rows(taken, np.stack(reference), session.manifest.model.num_layers)


def _rows(taken: dict[str, list[list[Turn]]], reference: np.ndarray, num_layers: int) -> list[AblationRow]:
    base = next(iter(taken))
    bits = [turns[0].logits for turns in taken[base]]
    base_seconds = sum(median_of(turns, "measured") for turns in taken[base])
    rows = []
    for name, chunks in taken.items():
        sums = {field: sum(median_of(turns, field) for turns in chunks) for field in ("measured", "estimate", "attend")}
        alone = sums["estimate"] + sums["attend"]
        bound = alone / max(sums["estimate"], sums["attend"])
        rows.append(
            AblationRow(
                way=name,
                seconds=sums["measured"],
                estimate=sums["estimate"],
                attend=sums["attend"],
                launches=sum(median_of(turns, "launches") for turns in chunks) / len(chunks) / num_layers,
                gain=base_seconds / sums["measured"],
                bound=bound,
                of_bound=alone / sums["measured"] / bound,
                same_bits=all(
                    np.array_equal(turn.logits, own) for turns, own in zip(chunks, bits, strict=True) for turn in turns
                ),
                kl=difference(reference, np.stack([turns[0].logits for turns in chunks])).kl_mean,
            )
        )
    return rows
