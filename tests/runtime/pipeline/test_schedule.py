"""Timing, orders and groupings, on random instances against a simulator and all orders."""

import random
from typing import Any

import pytest
from schedule_oracle import check, random_problem, random_work, shortest, simulate

from shadowattn.runtime.pipeline.schedule import (
    PLANNERS,
    fifo,
    gilmore_gomory,
    greedy,
    groupings,
    make_schedule,
    timing,
)

SEED = 20251122


@pytest.fixture
def rng() -> random.Random:
    print(f"seed {SEED}")
    return random.Random(SEED)


def makespan(work: list[tuple[float, float]], order: tuple[int, ...], depth: int) -> float:
    return timing([work[index] for index in order], depth)[-1].attend_end


def test_timing(rng: random.Random) -> None:
    """By hand: group 2 could be estimated at 4, but both buffers are full until group 0 is attended, at 7."""
    work = [(2.0, 5.0), (2.0, 5.0), (2.0, 1.0)]
    starts = {depth: [(t.estimate_start, t.attend_start) for t in timing(work, depth)] for depth in (1, 2, 3)}
    assert starts == {1: [(0, 2), (7, 9), (14, 16)], 2: [(0, 2), (2, 7), (7, 12)], 3: [(0, 2), (2, 7), (4, 12)]}
    for _ in range(900):
        work, depth = random_work(rng, rng.randint(1, 12)), rng.choice((1, 2, 3))
        assert makespan(work, fifo(work, depth), depth) == pytest.approx(simulate(work, depth), rel=1e-12, abs=1e-12)


def test_gilmore_and_gomorys_order_is_the_best_of_all(rng: random.Random) -> None:
    """Greedy is not: it begins with the long attend, behind which the long estimate then waits for a buffer."""
    for _ in range(150):
        work = random_work(rng, rng.randint(1, 6))
        found = makespan(work, gilmore_gomory(work, 2), 2)
        assert found == pytest.approx(shortest(work, 2), rel=1e-12, abs=1e-12), work
    work = [(1.0, 1.0), (1.0, 6.0), (6.0, 1.0)]
    assert (makespan(work, greedy(work, 2), 2), makespan(work, fifo(work, 2), 2)) == (14, 9)


@pytest.mark.parametrize("depth", [1, 2])
def test_schedules_are_possible_and_best_is_the_shortest(rng: random.Random, depth: int) -> None:
    """Of all orders of all groupings that are tried; no other planner's is shorter."""
    for _ in range(150):
        problem = random_problem(rng)
        found = {name: make_schedule(*problem, planner=name, depth=depth) for name in PLANNERS}
        for schedule in found.values():
            check(problem, schedule, depth)
            assert schedule.makespan >= found["best"].makespan * (1 - 1e-12)
        own = groupings(problem.buckets, problem.group_size, tuple(problem.costs))
        assert len(set(own)) == len(own)
        if max(map(len, own)) <= 6:
            best = min(shortest([problem.costs[len(group.heads)] for group in groups], depth) for groups in own)
            assert found["best"].makespan == pytest.approx(best, rel=1e-9, abs=1e-12), problem


@pytest.mark.parametrize(
    ("buckets", "size", "counts", "wanted"),
    [
        ((0,) * 8, 4, (1, 2), [(0, 1), (2, 3), (4, 5), (6, 7)]),
        ((0,) * 8, 4, (1, 2, 4), [(0, 1, 2, 3), (4, 5, 6, 7)]),
        ((0, 0, 0, 1, 2, 2, 2, 2), 4, (1, 2, 4), [(0, 1), (2,), (3,), (4, 5, 6, 7)]),
        ((0,) * 4 + (1,) * 4 + (0,) * 4, 4, (1, 4, 8), [(0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7)]),
        ((0,) * 3, 3, (1, 2), [(0, 1), (2,)]),
        ((0,) * 9, 3, (1, 3, 6), [(0, 1, 2, 3, 4, 5), (6, 7, 8)]),
    ],
)
def test_the_largest_number_of_heads_wherever_it_can_be(buckets: Any, size: int, counts: Any, wanted: Any) -> None:
    assert [group.heads for group in groupings(buckets, size, counts)[-1]] == wanted
