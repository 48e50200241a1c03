"""A schedule: which group runs which stage on which resource, from when to when."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from shadowattn.runtime.scheduling.problem import HeadGroup, Problem, work_of
from shadowattn.runtime.scheduling.timing import starts

Resource = Literal["npu", "cpu"]
Stage = Literal["estimate", "select", "attend"]


@dataclasses.dataclass(frozen=True)
class Slot:
    """One stage of one group. group: its place in the launch order; start, end: seconds of the layer's groups."""

    resource: Resource
    group: int
    stage: Stage
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class Schedule:
    """groups: in launch order, which is the CPU's order too; planner: the name of the rule that gave that order."""

    groups: tuple[HeadGroup, ...]
    slots: tuple[Slot, ...]
    makespan: float
    planner: str

    def buckets(self) -> tuple[int, ...]:
        """Of scales, by query head."""
        by_head = {head: group.bucket for group in self.groups for head in group.heads}
        return tuple(by_head[head] for head in sorted(by_head))


def schedule_of(problem: Problem, groups: Sequence[HeadGroup], planner: str) -> Schedule:
    """The schedule of these groups in this order, every stage as early as it can be. Raises ValueError for no group."""
    if not groups:
        raise ValueError("wanted at least one head group to schedule, got none")
    slots = []
    work = work_of(problem, groups)
    for index, (begins, (estimate, cpu)) in enumerate(zip(starts(work, problem.depth), work, strict=True)):
        begin, cpu_begin = (problem.handover_seconds + seconds for seconds in begins)
        select = sum(map(problem.select_seconds.__getitem__, groups[index].heads))
        selected = cpu_begin + problem.group_seconds + select
        end = cpu_begin + cpu
        slots.append(Slot("npu", index, "estimate", begin, begin + estimate))
        slots.append(Slot("cpu", index, "select", cpu_begin, min(selected, end)))
        slots.append(Slot("cpu", index, "attend", min(selected, end), end))
    return Schedule(tuple(groups), tuple(slots), slots[-1].end, planner)
