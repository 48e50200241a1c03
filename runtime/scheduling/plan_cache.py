"""Schedules kept by shape, so that a shape is planned once and not for every layer and chunk."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from shadowattn.runtime.scheduling.alike import alike
from shadowattn.runtime.scheduling.planners import plan
from shadowattn.runtime.scheduling.problem import Problem
from shadowattn.runtime.scheduling.schedule import Schedule


class PlanCache:
    """At most `capacity` schedules, those used last; for one thread. misses, hits: plans made, calls that found one;
    seconds: spent in calls, hits too: building problems, planning them, and looking up."""

    def __init__(self, capacity: int = 256, planner: str = "best") -> None:
        if capacity < 1:
            raise ValueError(f"capacity: wanted room for at least 1 schedule, got {capacity}")
        self.hits = 0
        self.misses = 0
        self.seconds = 0.0
        self._capacity = capacity
        self._planner = planner
        self._schedules: OrderedDict[Hashable, Schedule] = OrderedDict()

    def get(self, key: Hashable, make_problem: Callable[[], Problem]) -> Schedule:
        """The schedule of that key, which stands for everything that make_problem reads. Raises what it raises."""
        start = time.perf_counter()
        schedule = self._get(key, make_problem)
        self.seconds += time.perf_counter() - start
        return schedule

    def get_layer(
        self,
        key: Hashable,
        buckets: Sequence[int],
        group_size: int,
        make_problem: Callable[[tuple[int, ...]], Problem],
    ) -> Schedule:
        """The schedule of a layer whose heads all cost the same; layers that can be divided in the same ways share it.
        buckets: of scales, by head; key stands for everything else that make_problem(buckets) reads."""
        start = time.perf_counter()
        layer = alike(buckets, group_size, in_order=self._planner == "fifo")
        schedule = layer.own(self._get((key, layer.key), lambda: make_problem(layer.key)))
        self.seconds += time.perf_counter() - start
        return schedule

    def _get(self, key: Hashable, make_problem: Callable[[], Problem]) -> Schedule:
        if key in self._schedules:
            self.hits += 1
            self._schedules.move_to_end(key)
            return self._schedules[key]
        schedule = plan(make_problem(), self._planner)
        self.misses += 1
        self._schedules[key] = schedule
        if len(self._schedules) > self._capacity:
            self._schedules.popitem(last=False)
        return schedule

    def __len__(self) -> int:
        return len(self._schedules)
