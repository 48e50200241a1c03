"""Measures a latency profile: every launch size in turn, on a real text, at a few lengths of the cache."""

import platform
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from shadowattn.models.spec import ModelSpec
from shadowattn.runtime.executor_pipelined import PipelinedExecutor, choose_bucket
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.pipeline.profiles import identity
from shadowattn.runtime.pipeline.turns import Advance, take_turns
from shadowattn.runtime.scheduling.profile import (
    AppendTime,
    CpuTime,
    LatencyProfile,
    LaunchTime,
    LinearTime,
)
from shadowattn.runtime.session import Session
from shadowattn.runtime.tracing.trace import Span, Trace


def measure_profile(
    session: Session,
    tokens: Sequence[int],
    kv_lens: Sequence[int],
    options: PipelineOptions,
    runs: int,
    advance: Advance = lambda name: None,
) -> LatencyProfile:
    """Of the longest prefill chunk. session: of the pipelined executor; tokens: at least max(kv_lens) of a text.

    kv_lens ascend; each is the cache's length after the measured chunk. Raises ValueError.
    """
    manifest = session.manifest
    chunk = manifest.prefill_chunks[-1]
    figures = _Figures(chunk, manifest.model.num_layers)
    own = session.pipelined
    session.reset()
    for kv_len in kv_lens:
        if session.length > kv_len - chunk:
            session.rewind(kv_len - chunk)
        elif session.length < kv_len - chunk:
            session.prefill(tokens[session.length : kv_len - chunk])
        seq_len = choose_bucket(manifest.seq_lens, kv_len)
        ways = {
            f"{heads} heads": session.make_pipeline(PipelineOptions(options.npu, "rank", "fifo", heads=(heads,)))
            for heads in own.launch_sizes(chunk, seq_len)
            if _covers(manifest.model, heads)
        }
        for way in ways.values():
            way.clock.trace = Trace()
        session.reset_stats()
        try:
            take_turns(session, tokens[kv_len - chunk : kv_len], ways, runs, advance)
        finally:
            session.use_pipeline(own)
        figures.add(kv_len, ways.values(), session)
    about = f"{runs} runs of each launch size in turn, medians, {session.num_threads} threads, ISA {session.isa}"
    return LatencyProfile(
        machine=f"{platform.node()} ({platform.machine()})",
        npu=options.npu.name,
        simulated=False,
        source=about,
        bundle=identity(manifest),
        **figures.entries(),
    )


def _covers(model: ModelSpec, heads: int) -> bool:
    """Whether launches of so many heads alone reach every head. Only then its time is measured by itself; plans do
    without the others."""
    whole = model.group_size if heads <= model.group_size else model.num_heads
    return whole % heads == 0


def _line(seconds: Mapping[int, float]) -> tuple[float, float]:
    """Heads of a group -> its seconds, as (seconds of any group, seconds of each head), by least squares of the
    relative error; neither is negative."""
    heads, times = (np.array(list(values), float) for values in (seconds.keys(), seconds.values()))
    if len(heads) > 1:
        (group, head), *_ = np.linalg.lstsq(
            np.stack([1 / times, heads / times], axis=1), np.ones(len(heads)), rcond=None
        )
        if group > 0 and head > 0:
            return float(group), float(head)
    return 0.0, float((times / heads).mean())


class _Figures:
    """Spans of traces, sorted into what a profile lists."""

    def __init__(self, chunk: int, num_layers: int) -> None:
        self._chunk = chunk
        self._launch: defaultdict[tuple[int, int], list[float]] = defaultdict(list)  # (S, heads)
        self._groups: defaultdict[int, defaultdict[int, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )  # by heads
        self._append: defaultdict[int, list[float]] = defaultdict(list)
        self._linear: list[float] = []
        self._ends = (f"linear_0_{chunk}", f"linear_{num_layers}_{chunk}")  # embedding and logits are no layer's
        self._select_share: dict[int, float] = {}

    def add(self, kv_len: int, ways: Iterable[PipelinedExecutor], session: Session) -> None:
        for way in ways:
            assert way.clock.trace is not None
            for span in way.clock.trace.spans():
                self._add(span, kv_len, choose_bucket(session.manifest.seq_lens, kv_len))
        seconds = session.stats().seconds
        self._select_share[kv_len] = seconds["select"] / (seconds["select"] + seconds["attend"])

    def _add(self, span: Span, kv_len: int, seq_len: int) -> None:
        seconds = span.end - span.start
        if span.name == "linear":
            if span.args["graph"] not in self._ends:
                self._linear.append(seconds)
        elif span.name == "append":
            self._append[kv_len].append(seconds)
        elif span.name == "estimate":
            self._launch[seq_len, len(span.args["heads"])].append(seconds)
        elif span.name == "attend" and "heads" in span.args:
            self._groups[kv_len][len(span.args["heads"])].append(seconds)

    def entries(self) -> dict[str, tuple]:
        cpu = []
        for kv_len, times in self._groups.items():
            # Heads differ by what they keep: of their times it is the mean that adds up to a layer's.
            group, head = _line({heads: statistics.fmean(own) for heads, own in times.items()})
            share = self._select_share[kv_len]
            cpu.append(CpuTime(self._chunk, kv_len, head * share, head * (1 - share), group))
        return {
            "launch": tuple(
                LaunchTime(self._chunk, seq_len, heads, statistics.median(times))
                for (seq_len, heads), times in sorted(self._launch.items())
            ),
            "cpu": tuple(cpu),
            "linear": (LinearTime(self._chunk, statistics.median(self._linear)),),
            "append": tuple(
                AppendTime(self._chunk, kv_len, statistics.median(times)) for kv_len, times in self._append.items()
            ),
        }
