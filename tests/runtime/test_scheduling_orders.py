"""Timing and the rules that order groups, against a simulator and against all orders."""

import itertools
import random
from collections.abc import Sequence

import pytest
from scheduling_problems import SEED, random_work, simulate

from shadowattn.runtime.scheduling.bounds import bound_of
from shadowattn.runtime.scheduling.exhaustive import MAX_GROUPS, exhaustive
from shadowattn.runtime.scheduling.gilmore_gomory import gilmore_gomory
from shadowattn.runtime.scheduling.orders import Order, Rule, fifo, greedy, johnson
from shadowattn.runtime.scheduling.problem import Work
from shadowattn.runtime.scheduling.timing import makespan, starts

RULES: tuple[Rule, ...] = (fifo, greedy, johnson, gilmore_gomory, exhaustive)


def run(work: Sequence[Work], order: Order, depth: int) -> float:
    return makespan([work[index] for index in order], depth)


def shortest(work: Sequence[Work], depth: int) -> float:
    return min(simulate(list(order), depth) for order in itertools.permutations(work))


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_timing_is_the_simulators(depth: int) -> None:
    rng = random.Random(SEED + depth)
    print(f"seed {SEED + depth}")
    for _ in range(300):
        work = random_work(rng, rng.randint(1, 12))
        assert makespan(work, depth) == pytest.approx(simulate(work, depth), rel=1e-12, abs=1e-12)


def test_timing_by_hand() -> None:
    """Group 2 could be estimated at 4, but both buffers are full until the CPU is done with group 0, at 7."""
    work = [(2.0, 5.0), (2.0, 5.0), (2.0, 1.0)]
    assert starts(work, 2) == [(0, 2), (2, 7), (7, 12)]
    assert starts(work, 3) == [(0, 2), (2, 7), (4, 12)]
    assert starts(work, 1) == [(0, 2), (7, 9), (14, 16)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_rule_orders_each_group_once(rule: Rule) -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    for _ in range(100):
        work, depth = random_work(rng, rng.randint(1, MAX_GROUPS)), rng.randint(1, 4)
        order = rule(work, depth)
        assert sorted(order) == list(range(len(work)))
        assert rule(work, depth) == order


@pytest.mark.parametrize(
    ("rule", "depths"),
    [(exhaustive, (1, 2, 3, 6)), (gilmore_gomory, (2,)), (johnson, (6,))],
    ids=str,
)
def test_optimal_rules_against_all_orders(rule: Rule, depths: tuple[int, ...]) -> None:
    """Exhaustive everywhere, Gilmore and Gomory with two buffers, Johnson with as many buffers as groups."""
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    for _ in range(150):
        work, depth = random_work(rng, rng.randint(1, 6)), rng.choice(depths)
        found, best = run(work, rule(work, depth), depth), shortest(work, depth)
        assert found == pytest.approx(best, rel=1e-12, abs=1e-12), (work, depth)
        assert bound_of(work, depth) <= best * (1 + 1e-12)


def test_johnson_is_not_optimal_with_two_buffers() -> None:
    """Why Gilmore and Gomory's rule is there."""
    work = [(1.0, 6.0), (6.0, 1.0), (1.0, 1.0)]
    assert run(work, johnson(work, 2), 2) == 14
    assert run(work, gilmore_gomory(work, 2), 2) == shortest(work, 2) == 9


def test_greedy_can_lose_to_fifo() -> None:
    """It begins with the long CPU span, behind which the long estimate then waits for a buffer."""
    work = [(1.0, 1.0), (1.0, 6.0), (6.0, 1.0)]
    assert run(work, greedy(work, 2), 2) == 14
    assert run(work, fifo(work, 2), 2) == 9


def test_too_many_groups_for_all_orders() -> None:
    with pytest.raises(ValueError, match="all orders of 8 groups are too many"):
        exhaustive([(1.0, 1.0)] * 8, 2)
