"""Random problems, every grouping of a small one, and an event-by-event simulator: the slow oracles of the planners."""

import itertools
import random
from collections.abc import Iterator, Sequence

from shadowattn.runtime.scheduling.problem import HeadGroup, Problem, Work

SEED = 20251122


def random_problem(rng: random.Random, max_units: int = 4, depths: Sequence[int] = (1, 2, 3, 8)) -> Problem:
    """Any layout; whole milliseconds in one of two problems, so that ties happen."""
    size, units = rng.randint(1, 4), rng.randint(1, max_units)
    heads = size * units
    allowed = [1, *(count for count in range(2, heads + 1) if count <= size or count % size == 0)]
    counts = {1, *rng.sample(allowed, rng.randint(0, min(3, len(allowed))))}
    whole = rng.random() < 0.5

    def seconds(low: float, high: float) -> float:
        value = rng.uniform(low, high)
        return round(value) / 1000 if whole else value / 1000

    launch, step = {}, seconds(1, 4)
    for count in sorted(counts):
        launch[count] = step
        step += seconds(0, 4)
    cpu = rng.choice((1, 4, 12))
    return Problem(
        group_size=size,
        buckets=tuple(rng.randrange(rng.choice((1, 1, 3))) for _ in range(heads)),
        launch_seconds=launch,
        select_seconds=tuple(seconds(0, 1) for _ in range(heads)),
        attend_seconds=tuple(seconds(0, cpu) for _ in range(heads)),
        depth=rng.choice(depths),
        group_seconds=rng.choice((0.0, seconds(0, 1))),
        handover_seconds=rng.choice((0.0, seconds(0, 1))),
    )


def every_grouping(problem: Problem, units: Sequence[int] | None = None) -> Iterator[tuple[HeadGroup, ...]]:
    """All ways to divide the heads (of these units) into groups that can be launched."""
    left = tuple(range(problem.num_heads // problem.group_size)) if units is None else units
    if not left:
        yield ()
        return
    first, *others = left
    for few in range(1, len(left)):
        for more in itertools.combinations(others, few):
            group = _group(problem, [head for unit in (first, *more) for head in _heads(problem, unit)])
            if group is not None:
                rest = [unit for unit in others if unit not in more]
                yield from ((group, *groups) for groups in every_grouping(problem, rest))
    for own in _divided(problem, _heads(problem, first)):
        yield from ((*own, *groups) for groups in every_grouping(problem, others))


def _divided(problem: Problem, heads: Sequence[int]) -> Iterator[tuple[HeadGroup, ...]]:
    """All ways to cut adjacent heads of one unit."""
    if not heads:
        yield ()
    for count in range(1, len(heads) + 1):
        group = _group(problem, heads[:count])
        if group is not None:
            yield from ((group, *groups) for groups in _divided(problem, heads[count:]))


def _group(problem: Problem, heads: Sequence[int]) -> HeadGroup | None:
    buckets = {problem.buckets[head] for head in heads}
    if len(heads) not in problem.launch_seconds or len(buckets) > 1:
        return None
    return HeadGroup(tuple(heads), buckets.pop())


def _heads(problem: Problem, unit: int) -> range:
    return range(unit * problem.group_size, (unit + 1) * problem.group_size)


def random_work(rng: random.Random, count: int) -> list[Work]:
    if rng.random() < 0.5:
        return [(float(rng.randint(0, 6)), float(rng.randint(0, 6))) for _ in range(count)]
    return [(rng.uniform(0, 5), rng.uniform(0, 5)) for _ in range(count)]


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
