"""Slow oracles of the planners: random problems, all orders, a simulator, and what makes a schedule possible."""

import itertools
import random
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from shadowattn.runtime.pipeline.schedule import Schedule, Work


class Problem(NamedTuple):
    """The arguments of make_schedule()."""

    costs: dict[int, Work]
    buckets: tuple[int, ...]
    group_size: int


def random_problem(rng: random.Random) -> Problem:
    """Any layout of at most 12 heads."""
    size, units = rng.randint(1, 4), rng.randint(1, 3)
    heads = size * units
    allowed = [count for count in range(2, heads + 1) if count <= size or count % size == 0]
    counts = sorted({1, *rng.sample(allowed, rng.randint(0, min(3, len(allowed))))})
    buckets = tuple(rng.randrange(rng.choice((1, 1, 3))) for _ in range(heads))
    return Problem(dict(zip(counts, random_work(rng, len(counts)), strict=True)), buckets, size)


def random_work(rng: random.Random, count: int) -> list[Work]:
    """Whole seconds in one of two, so that ties happen."""
    if rng.random() < 0.5:
        return [(float(rng.randint(0, 6)), float(rng.randint(0, 6))) for _ in range(count)]
    return [(rng.uniform(0, 5), rng.uniform(0, 5)) for _ in range(count)]


def shortest(work: Sequence[Work], depth: int) -> float:
    """Of all orders."""
    return min(simulate(order, depth) for order in itertools.permutations(work))


def simulate(work: Sequence[Work], depth: int) -> float:
    """Runs the groups in order, event by event: a counter of free buffers, a queue between two machines, one clock."""
    clock, free, waiting = 0.0, depth, list(work)
    queue: list[float] = []
    npu: tuple[float, float] | None = None  # (when it ends, seconds on the other machine)
    cpu: float | None = None
    while waiting or queue or npu is not None or cpu is not None:
        if npu is None and waiting and free:
            free -= 1
            estimate, attend = waiting.pop(0)
            npu = (clock + estimate, attend)
        if cpu is None and queue:
            cpu = clock + queue.pop(0)
        clock = min(end for end in (npu and npu[0], cpu) if end is not None)
        if cpu is not None and cpu <= clock:
            cpu, free = None, free + 1
        if npu is not None and npu[0] <= clock:
            queue.append(npu[1])
            npu = None
    return clock


def check(problem: Problem, schedule: Schedule, depth: int) -> None:
    """Every head once, allowed groups of one bucket, no overlap on a worker, stages in order, buffers respected, and
    every stage takes its time."""
    groups, times, size = schedule.groups, schedule.times, problem.group_size
    assert sorted(head for group in groups for head in group.heads) == list(range(len(problem.buckets)))
    for index, (group, time) in enumerate(zip(groups, times, strict=True)):
        assert {problem.buckets[head] for head in group.heads} == {group.bucket}
        units = {head // size for head in group.heads}
        adjacent = all(b == a + 1 for a, b in itertools.pairwise(group.heads))
        assert len(group.heads) == len(units) * size or (len(units) == 1 and adjacent)
        took = (time.estimate_end - time.estimate_start, time.attend_end - time.attend_start)
        assert took == pytest.approx(problem.costs[len(group.heads)])
        assert time.attend_start >= time.estimate_end
        if index:
            assert time.estimate_start >= times[index - 1].estimate_end
            assert time.attend_start >= times[index - 1].attend_end
        if index >= depth:
            assert time.estimate_start >= times[index - depth].attend_end
