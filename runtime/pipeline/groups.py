"""Which head groups a layer is divided into, and their order: a plan per shape and scale buckets, kept."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from shadowattn.models.estimate_graphs import EstimateKey
from shadowattn.models.spec import ModelSpec
from shadowattn.runtime.pipeline.options import OFF, PipelineOptions
from shadowattn.runtime.scheduling.plan_cache import PlanCache
from shadowattn.runtime.scheduling.problem import Problem
from shadowattn.runtime.scheduling.profiled import Shape, problem
from shadowattn.runtime.scheduling.schedule import Schedule

# Without a profile: a head's select and attend take as long as its estimate, and a launch costs a fifth of that more.
_HEAD_SECONDS = 1e-3
_LAUNCH_SECONDS = 2e-4


class GroupPlanner:
    """Schedules of one session. keys: the estimate graphs that there are."""

    def __init__(self, model: ModelSpec, keys: Iterable[EstimateKey], options: PipelineOptions, depth: int) -> None:
        """depth: estimate buffers that are used; 1: nothing overlaps. Raises ValueError for numbers of heads that no
        graph has, and for a profile of other chunks."""
        self._model = model
        self._options = options
        self._depth = depth
        self._counts: dict[tuple[int, int], set[int]] = {}
        for key in keys:
            if options.heads is None or key.heads in options.heads:
                self._counts.setdefault((key.chunk, key.seq_len), set()).add(key.heads)
        if not self._counts:
            raise ValueError(
                f"no estimate graph is of {_list(options.heads or ())} heads, there are such of "
                f"{_list({key.heads for key in keys})}"
            )
        self._profiled = self._profiled_chunks()
        self._costs: tuple[Shape, Problem] | None = None
        self.plans = PlanCache(planner="fifo" if options.planner == OFF else options.planner)

    def predicts(self, chunk: int) -> bool:
        """Whether the seconds of that chunk length's schedules mean anything."""
        return chunk in self._profiled

    def counts(self, chunk: int, seq_len: int) -> tuple[int, ...]:
        """Numbers of heads that a launch may have, ascending."""
        return tuple(sorted(self._counts.get((chunk, seq_len), ())))

    def schedule(self, shape: Shape, buckets: np.ndarray) -> Schedule:
        """buckets int32 [H]. Raises ValueError where there are no graphs for the shape, or none that is profiled."""
        known = shape if self.predicts(shape.chunk) else dataclasses.replace(shape, kv_len=shape.seq_len)
        return self.plans.get_layer(
            known, buckets.tolist(), self._model.group_size, lambda own: self.problem(known, own)
        )

    def problem(self, shape: Shape, buckets: tuple[int, ...]) -> Problem:
        """What schedule() plans. Raises ValueError."""
        if self._costs is None or self._costs[0] != shape:  # of the chunk under way, for each of its layers
            self._costs = shape, self._one_bucket(shape)
        return dataclasses.replace(self._costs[1], buckets=buckets)

    def _one_bucket(self, shape: Shape) -> Problem:
        """The problem if all heads took one bucket."""
        counts = self.counts(shape.chunk, shape.seq_len)
        if not counts:
            wanted = "" if self._options.heads is None else f" of {', '.join(map(str, self._options.heads))} heads"
            there = ", ".join(f"{chunk} x {seq_len}" for chunk, seq_len in sorted(self._counts)) or "none"
            raise ValueError(
                f"no estimate graph{wanted} for chunks of {shape.chunk} rows and bucket {shape.seq_len}; there are "
                f"such for {there}; convert the model again"
            )
        buckets = (0,) * self._model.num_heads
        if self._options.profile is None or not self.predicts(shape.chunk):
            return self._unprofiled(counts, buckets)
        profiled = problem(self._options.profile, self._model, shape, buckets, self._depth)
        known = {count: seconds for count, seconds in profiled.launch_seconds.items() if count in counts}
        if not known:
            raise ValueError(
                f"the profile has launches of {', '.join(map(str, profiled.launch_seconds))} heads, the session "
                f"may use {', '.join(map(str, counts))}; measure the profile again"
            )
        emulated = self._options.launch_ms / 1000
        return dataclasses.replace(profiled, launch_seconds={count: s + emulated for count, s in known.items()})

    def _profiled_chunks(self) -> set[int]:
        """Lengths to plan by the profile: usually the longest alone, which most of a prompt's chunks are of."""
        profile = self._options.profile
        if profile is None:
            return set()
        known = {time.chunk for time in profile.launch} & {time.chunk for time in profile.cpu}
        own = {chunk for chunk, _ in self._counts}
        if not known & own:
            raise ValueError(
                f"the profile has launches and CPU figures for chunks of {_list(known) or 'no'} rows, the estimate "
                f"graphs are of {_list(own)}; measure the profile again"
            )
        return known

    def _unprofiled(self, counts: tuple[int, ...], buckets: tuple[int, ...]) -> Problem:
        return Problem(
            group_size=self._model.group_size,
            buckets=buckets,
            launch_seconds={count: _LAUNCH_SECONDS + count * _HEAD_SECONDS for count in counts},
            select_seconds=(0.0,) * len(buckets),
            attend_seconds=(_HEAD_SECONDS,) * len(buckets),
            depth=self._depth,
        )


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
