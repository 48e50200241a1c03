"""Slow oracles of the planners: random problems, every grouping of a small one, all orders, and a simulator."""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest

from shadowattn.runtime.pipeline.schedule import HeadGroup, Schedule, Work

SEED = 20251122


class Problem(NamedTuple):
    """The arguments of make_schedule()."""

    costs: dict[int, Work]
    buckets: tuple[int, ...]
    group_size: int


def random_problem(rng: random.Random, max_units: int = 4) -> Problem:
    """Any layout; whole seconds in one of two problems, so that ties happen."""
    size, units = rng.randint(1, 4), rng.randint(1, max_units)
    heads = size * units
    allowed = [count for count in range(2, heads + 1) if count <= size or count % size == 0]
    counts = {1, *rng.sample(allowed, rng.randint(0, min(3, len(allowed))))}
    buckets = tuple(rng.randrange(rng.choice((1, 1, 3))) for _ in range(heads))
    return Problem(dict(zip(sorted(counts), random_work(rng, len(counts)), strict=True)), buckets, size)


def random_work(rng: random.Random, count: int) -> list[Work]:
    if rng.random() < 0.5:
        return [(float(rng.randint(0, 6)), float(rng.randint(0, 6))) for _ in range(count)]
    return [(rng.uniform(0, 5), rng.uniform(0, 5)) for _ in range(count)]


def every_grouping(problem: Problem, left: tuple[int, ...] | None = None) -> Iterator[tuple[HeadGroup, ...]]:
    """All ways to divide the heads into groups that can be launched. left: units."""
    size = problem.group_size
    left = tuple(range(len(problem.buckets) // size)) if left is None else left
    if not left:
        yield ()
        return
    first, *others = left
    for few in range(1, len(left)):
        for more in itertools.combinations(others, few):
            heads = [head for unit in (first, *more) for head in range(unit * size, unit * size + size)]
            rest = tuple(unit for unit in others if unit not in more)
            yield from ((*own, *groups) for own in _group(problem, heads) for groups in every_grouping(problem, rest))
    for own in _cuts(problem, range(first * size, first * size + size)):
        yield from ((*own, *groups) for groups in every_grouping(problem, tuple(others)))


def _cuts(problem: Problem, heads: Sequence[int]) -> Iterator[tuple[HeadGroup, ...]]:
    """All ways to cut adjacent heads of one unit."""
    if not heads:
        yield ()
    for count in range(1, len(heads) + 1):
        for own in _group(problem, heads[:count]):
            yield from ((*own, *groups) for groups in _cuts(problem, heads[count:]))


def _group(problem: Problem, heads: Sequence[int]) -> list[tuple[HeadGroup]]:
    """Nothing where these heads cannot share a launch."""
    buckets = {problem.buckets[head] for head in heads}
    fits = len(heads) in problem.costs and len(buckets) == 1
    return [(HeadGroup(tuple(heads), buckets.pop()),)] if fits else []


def shortest(work: Sequence[Work], depth: int) -> float:
    """Of all orders."""
    return min(simulate(list(order), depth) for order in itertools.permutations(work))


def simulate(work: Sequence[Work], depth: int) -> float:
    """Runs the groups in order, event by event: a counter of free buffers, a queue between two machines, one clock."""
    clock, free, waiting = 0.0, depth, list(range(len(work)))
    queue: list[int] = []
    npu: tuple[float, int] | None = None
    cpu: tuple[float, int] | None = None
    while waiting or queue or npu or cpu:
        if npu is None and waiting and free:
            free -= 1
            npu = (clock + work[waiting[0]][0], waiting.pop(0))
        if cpu is None and queue:
            cpu = (clock + work[queue[0]][1], queue.pop(0))
        clock = min(event[0] for event in (npu, cpu) if event)
        if cpu and cpu[0] <= clock:
            cpu, free = None, free + 1
        if npu and npu[0] <= clock:
            queue.append(npu[1])
            npu = None
    return clock


def check(problem: Problem, schedule: Schedule, depth: int) -> None:
    """It can be run: every head once, allowed groups of one bucket, no overlap on a worker, stages in order, buffers
    respected, and every stage takes its time."""
    groups, times = schedule.groups, schedule.times
    assert sorted(head for group in groups for head in group.heads) == list(range(len(problem.buckets)))
    for index, (group, time) in enumerate(zip(groups, times, strict=True)):
        assert _group(problem, group.heads) == [(group,)]
        units = {head // problem.group_size for head in group.heads}
        adjacent = all(b == a + 1 for a, b in itertools.pairwise(group.heads))
        assert len(group.heads) == len(units) * problem.group_size or (len(units) == 1 and adjacent)
        took = (time.estimate_end - time.estimate_start, time.attend_end - time.attend_start)
        assert took == pytest.approx(problem.costs[len(group.heads)])
        assert time.attend_start >= time.estimate_end
        if index:
            assert time.estimate_start >= times[index - 1].estimate_end
            assert time.attend_start >= times[index - 1].attend_end
        if index >= depth:
            assert time.estimate_start >= times[index - depth].attend_end
