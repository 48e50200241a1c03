"""Measures a latency profile: every launch size in turn, on a real text, at a few lengths of the cache."""

import platform
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from shadowattn.models.spec import ModelSpec
from shadowattn.runtime.executor.pipelined import PipelinedExecutor, choose_bucket
from shadowattn.runtime.pipeline.layers import by_layer
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.pipeline.profiles import identity
from shadowattn.runtime.pipeline.turns import Advance, take_turns
from shadowattn.runtime.scheduling.problem import Work
from shadowattn.runtime.scheduling.profile import (
    AppendTime,
    Conditions,
    CpuTime,
    LatencyProfile,
    LaunchTime,
    LinearTime,
)
from shadowattn.runtime.session.session import Session
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
            heads: session.make_pipeline(PipelineOptions(options.npu, "rank", "fifo", heads=(heads,)))
            for heads in own.launch_sizes(chunk, seq_len)
            if _covers(manifest.model, heads)
        }
        for way in ways.values():
            way.clock.trace = Trace()
        session.reset_stats()
        try:
            named = {f"{heads} heads": way for heads, way in ways.items()}
            take_turns(session, tokens[kv_len - chunk : kv_len], named, runs, advance)
        finally:
            session.use_pipeline(own)
        figures.add(kv_len, ways, session)
    about = f"{runs} runs of each launch size in turn, medians, {session.num_threads} threads, ISA {session.isa}"
    return LatencyProfile(
        machine=f"{platform.node()} ({platform.machine()})",
        npu=options.npu.name,
        simulated=False,
        source=about,
        bundle=identity(manifest),
        conditions=Conditions(session.num_threads, session.settings.mode),
        **figures.entries(),
    )


def _covers(model: ModelSpec, heads: int) -> bool:
    """Whether launches of so many heads alone reach every head. Only then its time is measured by itself; plans do
    without the others."""
    whole = model.group_size if heads <= model.group_size else model.num_heads
    return whole % heads == 0


def line(seconds: Mapping[int, float]) -> tuple[float, float]:
    """Number -> seconds, as (seconds whatever the number, seconds of each), by least squares of the relative error;
    neither is negative. Numbers: heads of a group, groups of a layer."""
    numbers, times = (np.array(list(values), float) for values in (seconds.keys(), seconds.values()))
    if not times.all():  # no relative error of nothing
        return 0.0, float(times.sum() / numbers.sum())
    columns = np.stack([1 / times, numbers / times])
    if len(numbers) > 1:
        (fixed, each), *_ = np.linalg.lstsq(columns.T, np.ones(len(numbers)), rcond=None)
        if fixed > 0 and each > 0:
            return float(fixed), float(each)
    alone = columns.sum(axis=1) / np.square(columns).sum(axis=1)  # each column by itself
    fixed_error, each_error = np.square(1 - alone[:, None] * columns).sum(axis=1)
    return (float(alone[0]), 0.0) if fixed_error < each_error else (0.0, float(alone[1]))


class _Figures:
    """Spans of traces, sorted into what a profile lists."""

    def __init__(self, chunk: int, num_layers: int) -> None:
        self._chunk = chunk
        self._num_layers = num_layers
        self._launch: dict[tuple[int, int], float] = {}  # (S, heads)
        self._groups: defaultdict[int, dict[int, float]] = defaultdict(dict)  # by cache length: heads of a group
        self._handover: defaultdict[int, dict[int, float]] = defaultdict(dict)  # by cache length: groups of a layer
        self._append: defaultdict[int, list[float]] = defaultdict(list)
        self._linear: list[float] = []
        self._ends = (f"linear_0_{chunk}", f"linear_{num_layers}_{chunk}")  # embedding and logits are no layer's
        self._select_share: dict[int, float] = {}

    def add(self, kv_len: int, ways: Mapping[int, PipelinedExecutor], session: Session) -> None:
        """ways: by the number of heads of every launch."""
        seq_len = choose_bucket(session.manifest.seq_lens, kv_len)
        for heads, way in ways.items():
            assert way.clock.trace is not None
            spans = way.clock.trace.spans()
            layers = by_layer(spans)
            self._launch[seq_len, heads] = self._typical([_mean(layer.work(), 0) for layer in layers])
            self._groups[kv_len][heads] = self._typical([_mean(layer.work(), 1) for layer in layers])
            handover = self._typical([layer.handover(way.depth) for layer in layers])
            self._handover[kv_len][len(layers[0].work())] = handover
            for span in spans:
                self._add(span, kv_len)
        seconds = session.stats().seconds
        self._select_share[kv_len] = seconds["select"] / (seconds["select"] + seconds["attend"])

    def _typical(self, seconds: Sequence[float]) -> float:
        """seconds: layer by layer, run after run. Of a run it is the mean that adds up to what its layers took: heads
        differ by what they keep, and now and then a worker wakes late. Of the runs, the median."""
        firsts = range(0, len(seconds), self._num_layers)
        return statistics.median(statistics.fmean(seconds[first : first + self._num_layers]) for first in firsts)

    def _add(self, span: Span, kv_len: int) -> None:
        seconds = span.end - span.start
        if span.name == "append":
            self._append[kv_len].append(seconds)
        elif span.name == "linear" and span.args["graph"] not in self._ends:
            self._linear.append(seconds)

    def entries(self) -> dict[str, tuple]:
        cpu = []
        for kv_len, groups in self._groups.items():
            group, head = line(groups)
            if not head:  # noise: heads that cost nothing cannot be planned with
                group, head = 0.0, statistics.fmean(seconds / heads for heads, seconds in groups.items())
            share = self._select_share[kv_len]
            handover, each = line(self._handover[kv_len])
            cpu.append(CpuTime(self._chunk, kv_len, head * share, head * (1 - share), group + each, handover))
        return {
            "launch": tuple(
                LaunchTime(self._chunk, seq_len, heads, seconds)
                for (seq_len, heads), seconds in sorted(self._launch.items())
            ),
            "cpu": tuple(cpu),
            "linear": (LinearTime(self._chunk, statistics.median(self._linear)),),
            "append": tuple(
                AppendTime(self._chunk, kv_len, statistics.median(times)) for kv_len, times in self._append.items()
            ),
        }


def _mean(work: Sequence[Work], resource: int) -> float:
    """Of a layer's groups. resource: 0 the estimates, 1 the CPU."""
    return statistics.fmean(seconds[resource] for seconds in work)
