"""Whether a schedule can be run: every head once, allowed groups, no overlap, stages in order, buffers respected."""

import itertools

from shadowattn.runtime.scheduling.problem import HeadGroup, Problem
from shadowattn.runtime.scheduling.schedule import Schedule, Slot

_STAGES = {"estimate": "npu", "select": "cpu", "attend": "cpu"}
_TOLERANCE = 1e-9  # of the makespan: sums of seconds in another order


def check(problem: Problem, schedule: Schedule) -> None:
    """Raises ValueError that names the first fault."""
    heads = sorted(head for group in schedule.groups for head in group.heads)
    if heads != list(range(problem.num_heads)):
        raise ValueError(f"wanted each of {problem.num_heads} heads in one group, got {heads}")
    for group in schedule.groups:
        _check_group(problem, group)
    slots = _by_stage(schedule)
    slack = _TOLERANCE * max(schedule.makespan, 1e-9)
    for index, group in enumerate(schedule.groups):
        _check_durations(problem, group, [slots[index, stage] for stage in _STAGES], slack)
        _check_order(slots, index, problem, slack)
    last = max(slot.end for slot in schedule.slots)
    if abs(last - schedule.makespan) > slack:
        raise ValueError(f"makespan is {schedule.makespan}, the last slot ends at {last}")


def _check_group(problem: Problem, group: HeadGroup) -> None:
    if len(group.heads) not in problem.launch_seconds:
        raise ValueError(f"{group}: no launch of {len(group.heads)} heads")
    if any(problem.buckets[head] != group.bucket for head in group.heads):
        raise ValueError(f"{group}: its heads' buckets are {[problem.buckets[head] for head in group.heads]}")
    units = {head // problem.group_size for head in group.heads}
    adjacent = all(after == before + 1 for before, after in itertools.pairwise(group.heads))
    whole = len(group.heads) == len(units) * problem.group_size
    if not (whole or (len(units) == 1 and adjacent)):
        raise ValueError(f"{group}: neither adjacent heads of one unit nor whole units of {problem.group_size}")


def _by_stage(schedule: Schedule) -> dict[tuple[int, str], Slot]:
    """(group, stage) -> its one slot."""
    found = {(slot.group, str(slot.stage)): slot for slot in schedule.slots}
    wanted = {(index, stage) for index in range(len(schedule.groups)) for stage in _STAGES}
    if set(found) != wanted or len(schedule.slots) != len(wanted):
        raise ValueError(f"wanted one slot for each stage of {len(schedule.groups)} groups, got {sorted(found)}")
    for (index, stage), slot in found.items():
        if slot.resource != _STAGES[stage]:
            raise ValueError(f"{stage} of group {index} runs on the {slot.resource}, wanted {_STAGES[stage]}")
    return found


def _check_durations(problem: Problem, group: HeadGroup, slots: list[Slot], slack: float) -> None:
    wanted = (
        problem.launch_seconds[len(group.heads)],
        problem.group_seconds + sum(problem.select_seconds[head] for head in group.heads),
        sum(problem.attend_seconds[head] for head in group.heads),
    )
    for slot, seconds in zip(slots, wanted, strict=True):
        if abs(slot.end - slot.start - seconds) > slack:
            raise ValueError(f"{slot} lasts {slot.end - slot.start} s, wanted {seconds}")


def _check_order(slots: dict[tuple[int, str], Slot], index: int, problem: Problem, slack: float) -> None:
    """Stages of one group, then what ran before on either resource, then the buffers."""
    estimate, select, attend = (slots[index, stage] for stage in _STAGES)
    before = [
        ("its group's estimate", estimate, select),
        ("its group's select", select, attend),
    ]
    if abs(attend.start - select.end) > slack:
        raise ValueError(f"{attend} does not follow its select at {select.end} at once")
    if index:
        before.append(("the estimate before it", slots[index - 1, "estimate"], estimate))
        before.append(("the attend before it", slots[index - 1, "attend"], select))
    if index >= (depth := problem.depth):
        before.append((f"the attend that frees one of {depth} buffers", slots[index - depth, "attend"], estimate))
    for what, earlier, later in before:
        if later.start < earlier.end - slack:
            raise ValueError(f"{later} begins before {what} ends at {earlier.end}")
    if estimate.start < problem.handover_seconds - slack:
        raise ValueError(f"{estimate} begins before {problem.handover_seconds}, when both workers are under way")
