"""Timing, orders and groupings, on random instances against a simulator, all orders and all groupings."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from schedule_oracle import SEED, Problem, check, every_grouping, random_problem, random_work, shortest, simulate

from shadowattn.runtime.pipeline.schedule import (
    PLANNERS,
    fifo,
    gilmore_gomory,
    greedy,
    groupings,
    make_schedule,
    timing,
)

COSTS = {1: (2.0, 3.0), 2: (3.0, 6.0), 4: (4.0, 12.0)}


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    print(f"seed {SEED}")
    return random.Random(SEED)


def makespan(work: list[tuple[float, float]], order: tuple[int, ...], depth: int) -> float:
    return timing([work[index] for index in order], depth)[-1].attend_end


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_timing_is_the_simulators(rng: random.Random, depth: int) -> None:
    for _ in range(300):
        work = random_work(rng, rng.randint(1, 12))
        assert makespan(work, fifo(work, depth), depth) == pytest.approx(simulate(work, depth), rel=1e-12, abs=1e-12)


def test_timing_by_hand() -> None:
    """Group 2 could be estimated at 4, but both buffers are full until the CPU is done with group 0, at 7."""
    work = [(2.0, 5.0), (2.0, 5.0), (2.0, 1.0)]
    starts = {depth: [(t.estimate_start, t.attend_start) for t in timing(work, depth)] for depth in (1, 2, 3)}
    assert starts == {1: [(0, 2), (7, 9), (14, 16)], 2: [(0, 2), (2, 7), (7, 12)], 3: [(0, 2), (2, 7), (4, 12)]}


@pytest.mark.parametrize("planner", PLANNERS)
def test_every_rule_orders_each_group_once(rng: random.Random, planner: str) -> None:
    for _ in range(100):
        work, depth = random_work(rng, rng.randint(1, 9)), rng.choice((1, 2))
        order = PLANNERS[planner](work, depth)
        assert sorted(order) == list(range(len(work)))
        assert PLANNERS[planner](work, depth) == order


def test_gilmore_and_gomorys_order_is_the_best_of_all(rng: random.Random) -> None:
    for _ in range(150):
        work = random_work(rng, rng.randint(1, 6))
        found = makespan(work, gilmore_gomory(work, 2), 2)
        assert found == pytest.approx(shortest(work, 2), rel=1e-12, abs=1e-12), work


def test_greedy_can_lose_to_fifo() -> None:
    """It begins with the long CPU span, behind which the long estimate then waits for a buffer."""
    work = [(1.0, 1.0), (1.0, 6.0), (6.0, 1.0)]
    assert (makespan(work, greedy(work, 2), 2), makespan(work, fifo(work, 2), 2)) == (14, 9)


@pytest.mark.parametrize("depth", [1, 2])
def test_schedules_can_be_run_and_best_is_the_shortest(rng: random.Random, depth: int) -> None:
    """Of all orders of its groupings; no other planner's is shorter, and none of all groupings is of none of them."""
    for _ in range(150):
        problem = random_problem(rng, max_units=3)
        found = {name: make_schedule(*problem, planner=name, depth=depth) for name in PLANNERS}
        for schedule in found.values():
            check(problem, schedule, depth)
            assert schedule.makespan >= found["best"].makespan * (1 - 1e-12)
        own = groupings(problem.buckets, problem.group_size, tuple(problem.costs))
        work = [[problem.costs[len(group.heads)] for group in groups] for groups in own]
        if max(map(len, work)) <= 6:
            best = min(shortest(own, depth) for own in work)
            assert found["best"].makespan == pytest.approx(best, rel=1e-9, abs=1e-12), problem


def test_every_grouping_is_one_that_can_be_launched(rng: random.Random) -> None:
    for _ in range(100):
        problem = random_problem(rng, max_units=3)
        if len(problem.buckets) <= 8:
            possible = {frozenset(groups) for groups in every_grouping(problem)}
            own = groupings(problem.buckets, problem.group_size, tuple(sorted(problem.costs)))
            assert {frozenset(groups) for groups in own} <= possible
            assert len(set(own)) == len(own)


def test_the_oracle_divides_two_units_by_hand() -> None:
    """Each unit of two heads whole or halved, or both in one launch; with other buckets never both."""
    for buckets, count in (((0, 0, 0, 0), 5), ((0, 0, 1, 1), 4), ((0, 1, 1, 1), 2)):
        assert len(set(every_grouping(Problem(COSTS, buckets, 2)))) == count


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
    last = groupings(buckets, size, counts)[-1]
    assert [group.heads for group in last] == wanted
    assert all(group.bucket == buckets[group.heads[0]] for group in last)


@pytest.mark.parametrize("make", [lambda: groupings((0,) * 3, 3, (2,)), lambda: make_schedule({2: (1, 1)}, (0, 1), 2)])
def test_launches_that_cannot_cover(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="launches of 2 heads cannot cover the heads; allow launches of 1 head"):
        make()
