"""Chunks run again and again, whole or under several ways in interleaved order; and a latency profile of them."""

import dataclasses
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from shadowattn.models.bundle import MODEL
from shadowattn.runtime.pipeline.executor import PipelinedExecutor, choose_bucket
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.pipeline.profile import LatencyProfile, LaunchTime
from shadowattn.runtime.pipeline.record import ChunkRecord
from shadowattn.runtime.pipeline.schedule import timing
from shadowattn.runtime.pipeline.trace import Span, in_order
from shadowattn.runtime.session.session import Session

Advance = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class ChunkRun:
    """One run of a chunk. logits: float32 [vocab] after its last token; spans: of both workers, by start."""

    record: ChunkRecord
    logits: np.ndarray
    spans: tuple[Span, ...]

    def seconds(self, stage: str) -> list[float]:
        return [span.seconds for span in self.spans if span.name == stage]

    def layer(self, layer: int) -> list[Span]:
        """What the workers did between the first launch and the last attended group of a layer."""
        whole = [span for span in self.spans if span.name == "groups"][layer]
        inside = (span for span in self.spans if whole.start <= span.start and span.end <= whole.end)
        return [span for span in inside if span is not whole]

    def means(self, depth: int) -> tuple[float, float, float]:
        """Of a group, mean over the groups, then over the layers, so that it adds up to what they took: heads differ by
        what they select, and now and then a worker wakes late. Seconds of its estimate, of its select and attend, and
        those that a layer takes beyond what these stages need: waking the other worker, queues, Python."""
        found = []
        for layer, whole in enumerate(self.seconds("groups")):
            spans = self.layer(layer)
            estimates, attends = ([s.seconds for s in spans if s.name == name] for name in ("estimate", "attend"))
            needed = timing(list(zip(estimates, attends, strict=True)), depth)[-1].attend_end
            overhead = max(0.0, whole - needed) / len(estimates)
            found.append((statistics.fmean(estimates), statistics.fmean(attends), overhead))
        estimate, attend, overhead = map(statistics.fmean, zip(*found, strict=True))
        return estimate, attend, overhead


def run_chunk(session: Session, tokens: Sequence[int]) -> ChunkRun:
    """Appends one chunk of tokens. session: of the pipelined executor. Raises ValueError if the chunk launches no
    estimate."""
    executor, start = session.pipelined, session.length
    with executor.clock.recording() as spans:
        logits = session.prefill(tokens)
    if not executor.schedules:
        raise ValueError(
            f"{len(tokens)} tokens at position {start} launch no estimate in mode {session.settings.mode}: wanted a "
            "sparse mode that reads scores, and a chunk beyond min_k positions"
        )
    return ChunkRun(executor.record.chunks[-1], logits, tuple(in_order(spans)))


def run_interleaved(
    session: Session,
    tokens: Sequence[int],
    ways: Mapping[str, PipelinedExecutor],
    runs: int,
    advance: Advance = lambda name: None,
) -> dict[str, list[ChunkRun]]:
    """Appends one chunk of tokens under every way, `runs` times, and once before that is not counted: whatever else
    the machine does falls on all. A way that changes results (another scale bucket) rewrites the chunk's rows, so the
    first way runs last: the rows that later chunks see are its own. advance(name) is called after each run."""
    start = session.length
    taken: dict[str, list[ChunkRun]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name in reversed(taken):
            session.rewind(start)
            session.use_pipeline(ways[name])
            one = run_chunk(session, tokens)
            if run:
                taken[name].append(one)
            advance(name)
    return taken


def measure_profile(
    session: Session,
    tokens: Sequence[int],
    kv_lens: Sequence[int],
    options: PipelineOptions,
    runs: int,
    advance: Advance = lambda name: None,
) -> LatencyProfile:
    """Every launch size of the longest prefill chunk, on real text. session: of the pipelined executor; tokens: at
    least max(kv_lens); kv_lens ascend, each is the cache's length after the measured chunk. Raises ValueError."""
    manifest, own, chunk = session.manifest, session.pipelined, session.manifest.prefill_chunks[-1]
    launch: list[LaunchTime] = []
    session.reset()
    for kv_len in kv_lens:
        session.rewind(min(session.length, kv_len - chunk))
        if session.length < kv_len - chunk:
            session.prefill(tokens[session.length : kv_len - chunk])
        ways = {}
        for heads in own.planner.counts(chunk, choose_bucket(manifest.seq_lens, kv_len)):
            whole = manifest.model.group_size if heads <= manifest.model.group_size else manifest.model.num_heads
            if whole % heads == 0:  # these alone reach every head; schedules do without the others
                fixed = PipelineOptions(options.npu, "rank", "fifo", heads=(heads,))
                ways[str(heads)] = session.make_pipeline(fixed)
        try:
            taken = run_interleaved(session, tokens[kv_len - chunk : kv_len], ways, runs, advance)
        finally:
            session.use_pipeline(own)
        for name, chunks in taken.items():
            medians = map(statistics.median, zip(*(run.means(own.depth) for run in chunks), strict=True))
            launch.append(LaunchTime(chunks[0].record.seq_len, kv_len, int(name), *medians))
    how = f"{runs} runs of each launch size, interleaved, medians, {session.num_threads} threads, ISA {session.isa}"
    return LatencyProfile(
        machine=f"{platform.node()} ({platform.machine()})",
        source=how,
        npu=options.npu.name,
        bundle=manifest.name,
        model_sha256=manifest.files[MODEL].sha256,
        num_threads=session.num_threads,
        mode=session.settings.mode,
        chunk=chunk,
        launch=tuple(launch),
    )
