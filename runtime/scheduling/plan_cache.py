"""Schedules kept by shape, so that a shape is planned once and not for every layer and chunk."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from shadowattn.runtime.scheduling.planners import plan
from shadowattn.runtime.scheduling.problem import Problem
from shadowattn.runtime.scheduling.schedule import Schedule


class PlanCache:
    """At most `capacity` schedules, those used last; for one thread. hits, misses: calls of get; seconds: spent
    building problems and planning them."""

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
        if key in self._schedules:
            self.hits += 1
            self._schedules.move_to_end(key)
            return self._schedules[key]
        start = time.perf_counter()
        schedule = plan(make_problem(), self._planner)
        self.seconds += time.perf_counter() - start
        self.misses += 1
        self._schedules[key] = schedule
        if len(self._schedules) > self._capacity:
            self._schedules.popitem(last=False)
        return schedule

    def __len__(self) -> int:
        return len(self._schedules)
