"""What a planner is given: the query heads of one layer and prefill chunk, and what each stage of them costs.

A *unit* is one KV head with its G query heads: head h belongs to unit h // G.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence

Work = tuple[float, float]  # seconds of a group: its estimate on the NPU, its select and attend on the CPU


@dataclasses.dataclass(frozen=True)
class HeadGroup:
    """Query heads whose estimate is one fused launch: adjacent heads of one unit, or all heads of some units."""

    heads: tuple[int, ...]
    bucket: int


@dataclasses.dataclass(frozen=True)
class Problem:
    """group_size: G; buckets: of scales, by head; launch_seconds: estimate of a launch, by its number of heads (the
    allowed numbers); select_seconds, attend_seconds: by head; depth: estimate buffers, so that the i-th estimate may
    begin when the CPU is done with group i - depth; group_seconds: of the CPU, for any group besides its heads;
    handover_seconds: before the first launch, whatever the groups. Raises ValueError for numbers that mean nothing."""

    group_size: int
    buckets: tuple[int, ...]
    launch_seconds: Mapping[int, float]
    select_seconds: tuple[float, ...]
    attend_seconds: tuple[float, ...]
    depth: int = 2
    group_seconds: float = 0.0
    handover_seconds: float = 0.0

    def __post_init__(self) -> None:
        heads = len(self.buckets)
        if self.group_size < 1 or not heads or heads % self.group_size:
            raise ValueError(f"wanted whole units of group_size {self.group_size} heads, got {heads} buckets")
        if self.depth < 1:
            raise ValueError(f"depth is the number of estimate buffers, at least 1, got {self.depth}")
        for name, seconds in (("select_seconds", self.select_seconds), ("attend_seconds", self.attend_seconds)):
            if len(seconds) != heads:
                raise ValueError(f"{name}: wanted one for each of {heads} heads, got {len(seconds)}")
            _need_times(name, seconds)
        _need_times("group_seconds", (self.group_seconds,))
        _need_times("handover_seconds", (self.handover_seconds,))
        _need_times("launch_seconds", self.launch_seconds.values())
        if not self.launch_seconds:
            raise ValueError("launch_seconds is empty: wanted the seconds of at least one number of heads")
        for count in self.launch_seconds:
            if not can_launch(count, self.group_size, heads):
                raise ValueError(
                    f"launch_seconds: {count} heads are no group of {heads} heads in units of {self.group_size}; "
                    "wanted a part of one unit or whole units"
                )

    @property
    def num_heads(self) -> int:
        return len(self.buckets)

    def cpu_seconds(self, heads: Iterable[int]) -> float:
        """Select and attend of these heads."""
        return self.group_seconds + sum(map(self._head_seconds.__getitem__, heads))

    @functools.cached_property
    def _head_seconds(self) -> list[float]:
        return list(map(operator.add, self.select_seconds, self.attend_seconds))


def can_launch(count: int, group_size: int, num_heads: int) -> bool:
    """Whether a group may have that many heads: at most a unit's, or a multiple of them."""
    return 1 <= count <= num_heads and (count <= group_size or count % group_size == 0)


def work_of(problem: Problem, groups: Sequence[HeadGroup]) -> list[Work]:
    """Seconds of each group on the NPU and on the CPU. Raises ValueError for a number of heads that has no launch."""
    missing = {len(group.heads) for group in groups} - set(problem.launch_seconds)
    if missing:
        raise ValueError(f"no launch of {min(missing)} heads; there are {', '.join(map(str, problem.launch_seconds))}")
    return [(problem.launch_seconds[len(group.heads)], problem.cpu_seconds(group.heads)) for group in groups]


def _need_times(name: str, seconds: Iterable[float]) -> None:
    for value in seconds:
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}: wanted finite seconds of at least 0, got {value}")
