"""Layers that may be divided in the same ways: one plan, each with its own heads and buckets."""

import dataclasses
import random

import pytest
from scheduling_problems import SEED, random_problem

from shadowattn.runtime.scheduling.alike import alike
from shadowattn.runtime.scheduling.plan_cache import PlanCache
from shadowattn.runtime.scheduling.planners import plan
from shadowattn.runtime.scheduling.problem import Problem
from shadowattn.runtime.scheduling.validity import check


def alike_heads(rng: random.Random, max_units: int = 8) -> Problem:
    """Any layout of heads that all cost the same, in up to nine buckets."""
    given = random_problem(rng, max_units)
    heads, few = given.num_heads, rng.choice((1, 2, 9))
    return dataclasses.replace(
        given,
        buckets=tuple(rng.randrange(few) for _ in range(heads)) if rng.random() < 0.8 else (rng.randrange(9),) * heads,
        select_seconds=given.select_seconds[:1] * heads,
        attend_seconds=given.attend_seconds[:1] * heads,
    )


@pytest.mark.parametrize("planner", ["best", "fifo", "greedy"])
def test_no_launch_has_heads_of_two_buckets(planner: str) -> None:
    """Of layers that share plans: each schedule is valid for the layer's own buckets, which its groups carry."""
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    shared = 0
    for costs in range(30):
        given, cache = alike_heads(rng), PlanCache(planner=planner)
        for _ in range(20):
            buckets = tuple(rng.randrange(3) for _ in range(given.num_heads))
            found = cache.get_layer(
                costs, buckets, given.group_size, lambda key, given=given: dataclasses.replace(given, buckets=key)
            )
            check(dataclasses.replace(given, buckets=buckets), found)
            assert found.buckets() == buckets
            assert all(len({buckets[head] for head in group.heads}) == 1 for group in found.groups)
        shared += cache.hits
    assert shared > 0


def test_a_shared_plan_is_as_short_as_the_layers_own() -> None:
    """FIFO's is the same, for it goes by the heads' places; the best one does not depend on them."""
    rng = random.Random(SEED + 1)
    print(f"seed {SEED + 1}")
    for _ in range(150):
        given = alike_heads(rng)
        for planner, same in (("fifo", True), ("best", given.depth <= 2)):
            own = plan(given, planner)
            found = PlanCache(planner=planner).get_layer(
                0, given.buckets, given.group_size, lambda key, given=given: dataclasses.replace(given, buckets=key)
            )
            if same:
                assert found.makespan == pytest.approx(own.makespan, rel=1e-12), given
            if planner == "fifo":
                assert found == own


def test_layers_alike_by_hand() -> None:
    """Units of 2 heads: whole ones by how many share a bucket, then the mixed ones."""
    one = alike((5, 7, 3, 3, 4, 4, 3, 3), 2)
    assert (one.key, one.units) == ((0, 0, 0, 0, 1, 1, 0, 1), (1, 3, 2, 0))
    assert alike((8, 8, 1, 1, 9, 2, 1, 1), 2).key == one.key
    assert alike((3, 3, 3, 3, 3, 3, 5, 7), 2).key != one.key
    assert alike((5, 7, 3, 3, 4, 4, 3, 3), 2, in_order=True).key == (0, 1, 0, 0, 1, 1, 0, 0)
    # (three of a bucket and one apart) is not (one apart and three); a bucket that comes back is no run
    assert alike((1, 1, 1, 2), 4).key != alike((2, 1, 1, 1), 4).key
    assert alike((1, 2, 1), 3).key == alike((1, 2, 3), 3).key


def test_layers_of_one_bucket_keep_the_plan_itself() -> None:
    cache, made = PlanCache(), []

    def problem(key: tuple[int, ...]) -> Problem:
        made.append(key)
        return Problem(2, key, {1: 2e-3, 2: 3e-3}, (1e-3,) * 4, (1e-3,) * 4)

    first = cache.get_layer("shape", (0, 0, 0, 0), 2, problem)
    assert cache.get_layer("shape", (0, 0, 0, 0), 2, problem) is first
    other = cache.get_layer("shape", (6, 6, 6, 6), 2, problem)
    assert made == [(0, 0, 0, 0)]
    assert (cache.misses, cache.hits) == (1, 2)
    assert {group.bucket for group in other.groups} == {6}
    assert (other.slots, other.makespan) == (first.slots, first.makespan)
    before = cache.seconds
    assert cache.get_layer("another", (0, 0, 0, 0), 2, problem) == first
    assert cache.seconds > before
