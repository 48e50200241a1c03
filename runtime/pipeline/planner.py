"""The schedule of each layer: made once for a chunk's shape and the scale buckets of the heads, and kept."""

import functools
import time
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from shadowattn.models.estimate_graphs import EstimateKey
from shadowattn.models.spec import ModelSpec
from shadowattn.runtime.pipeline.options import OFF, PipelineOptions
from shadowattn.runtime.pipeline.schedule import Schedule, Work, make_schedule

# Without a profile: a head's select and attend take as long as its estimate, and a launch costs a fifth of that more.
_HEAD_SECONDS = 1e-3
_LAUNCH_SECONDS = 2e-4
_KEPT = 256


class LayerPlanner:
    """kept: the cache of schedules (misses: made, hits: there already); seconds: spent on schedules, either way."""

    def __init__(self, model: ModelSpec, keys: Iterable[EstimateKey], options: PipelineOptions, depth: int) -> None:
        """keys: the estimate graphs that there are; depth: estimate buffers that are used, 1: nothing overlaps. Raises
        ValueError for numbers of heads that no graph has, and for a profile of other chunks."""
        self.seconds = 0.0
        self._group_size = model.group_size
        self._profile = options.profile
        self._depth = depth
        self._rule = "fifo" if options.planner == OFF else options.planner
        self.kept = functools.lru_cache(maxsize=_KEPT)(self._make)
        self._counts: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        for key in keys:
            if options.heads is None or key.heads in options.heads:
                self._counts[key.chunk, key.seq_len].add(key.heads)
        if not self._counts:
            wanted, there = _list(options.heads or ()), _list({key.heads for key in keys})
            raise ValueError(f"no estimate graph is of {wanted} heads, there are such of {there}")
        chunks = {chunk for chunk, _ in self._counts}
        if options.profile is not None and options.profile.chunk not in chunks:
            own = f"the profile is of chunks of {options.profile.chunk} rows"
            raise ValueError(f"{own}, the estimate graphs of {_list(chunks)}; run `shadowattn profile` again")

    def predicts(self, chunk: int) -> bool:
        """Whether the seconds of that chunk length's schedules mean anything."""
        return self._profile is not None and self._profile.chunk == chunk

    def counts(self, chunk: int, seq_len: int) -> tuple[int, ...]:
        """Numbers of heads that a launch may have, ascending."""
        return tuple(sorted(self._counts.get((chunk, seq_len), ())))

    def schedule(self, chunk: int, seq_len: int, kv_len: int, buckets: np.ndarray) -> Schedule:
        """Of one layer of a chunk that ends at kv_len positions. buckets int32 [H]. Raises ValueError where there are
        no graphs for the shape, or none that is profiled."""
        start = time.perf_counter()
        found = self.kept(chunk, seq_len, kv_len if self.predicts(chunk) else seq_len, tuple(buckets.tolist()))
        self.seconds += time.perf_counter() - start
        return found

    def _make(self, chunk: int, seq_len: int, kv_len: int, buckets: tuple[int, ...]) -> Schedule:
        costs = self._costs(chunk, seq_len, kv_len)
        return make_schedule(costs, buckets, self._group_size, self._rule, self._depth)

    def _costs(self, chunk: int, seq_len: int, kv_len: int) -> dict[int, Work]:
        counts = self.counts(chunk, seq_len)
        if not counts:
            there = ", ".join(f"{rows} x {length}" for rows, length in sorted(self._counts))
            wanted = f"no estimate graph for chunks of {chunk} rows and bucket {seq_len}"
            raise ValueError(f"{wanted}; there are such for {there}; convert the model again")
        if self._profile is None or not self.predicts(chunk):
            return {few: (_LAUNCH_SECONDS + few * _HEAD_SECONDS, few * _HEAD_SECONDS) for few in counts}
        profiled = self._profile.costs(seq_len, kv_len)
        if not profiled.keys() & set(counts):
            own, wanted = f"the profile has launches of {_list(profiled)} heads", f"the session may use {_list(counts)}"
            raise ValueError(f"{own}, {wanted}; run `shadowattn profile` again")
        return {few: work for few, work in profiled.items() if few in counts}


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
