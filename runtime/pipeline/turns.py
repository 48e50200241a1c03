"""One prompt, chunk by chunk, under several ways to run it in turn: whatever else the machine does falls on all.

A way that changes results (another scale bucket) rewrites the chunk's rows, so the first way always runs last: the rows
that later chunks see are its own.
"""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from shadowattn.runtime.executor.pipelined import PipelinedExecutor
from shadowattn.runtime.pipeline.record import ChunkRecord
from shadowattn.runtime.session.session import Session
from shadowattn.runtime.tracing.trace import Trace

Advance = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Turn:
    """One run of a chunk: its record, and float32 [vocab] after its last token."""

    record: ChunkRecord
    logits: np.ndarray


def take_turns(
    session: Session,
    tokens: Sequence[int],
    ways: Mapping[str, PipelinedExecutor],
    runs: int,
    advance: Advance = lambda name: None,
) -> dict[str, list[Turn]]:
    """Appends one chunk of tokens under every way, `runs` times, and once before that is not counted. advance(name) is
    called after each run. Raises what a chunk raises, and ValueError if the chunk launches no estimate."""
    start = session.length
    names = list(ways)
    taken: dict[str, list[Turn]] = {name: [] for name in names}
    for run in range(runs + 1):
        if run == 1:  # what a trace holds by now is not counted either
            for way in ways.values():
                way.clock.trace = None if way.clock.trace is None else Trace()
        for name in reversed(names):
            session.rewind(start)
            session.use_pipeline(ways[name])
            logits = session.prefill(tokens)
            records = ways[name].record.chunks
            if not records or records[-1].kv_len != start + len(tokens):
                raise ValueError(
                    f"{len(tokens)} tokens at position {start} launch no estimate in mode {session.settings.mode}: "
                    "wanted a sparse mode that reads scores, and a chunk beyond min_k positions"
                )
            if run:
                taken[name].append(Turn(records[-1], logits))
            advance(name)
    return taken


def median_of(turns: Sequence[Turn], field: str) -> float:
    """Of a field of their records, which must not be None."""
    return statistics.median(getattr(turn.record, field) for turn in turns)
