"""Problems, groupings, schedules, planners and the cache: properties on random instances."""

import dataclasses
import itertools
import random
from typing import Any

import pytest
from scheduling_problems import SEED, every_grouping, random_problem, simulate

from shadowattn.runtime.scheduling.bounds import lower_bound, one_after_the_other, speedup_bound
from shadowattn.runtime.scheduling.grouping import ramps, uniform
from shadowattn.runtime.scheduling.plan_cache import PlanCache
from shadowattn.runtime.scheduling.planners import PLANNERS, plan
from shadowattn.runtime.scheduling.problem import HeadGroup, Problem, work_of
from shadowattn.runtime.scheduling.schedule import Schedule, schedule_of
from shadowattn.runtime.scheduling.timing import makespan
from shadowattn.runtime.scheduling.validity import check

LAUNCH = {1: 0.002, 2: 0.003, 4: 0.004}


def problem(heads: int = 8, size: int = 4, **changes: Any) -> Problem:
    rising = tuple(0.001 * (1 + head) for head in range(heads))
    fields = {"buckets": (0,) * heads, "launch_seconds": LAUNCH, "select_seconds": (0.001,) * heads} | changes
    return Problem(**({"group_size": size, "attend_seconds": rising} | fields))


def heads_of(groups: tuple[HeadGroup, ...]) -> list[tuple[int, ...]]:
    return [group.heads for group in groups]


def test_every_plan_is_valid_and_within_its_bounds() -> None:
    """Valid, timed as the simulator times it, never worse than FIFO of any grouping, never below the bound."""
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    for _ in range(250):
        given = random_problem(rng)
        best = plan(given)
        check(given, best)
        seconds = best.makespan - given.handover_seconds
        assert seconds == pytest.approx(simulate(work_of(given, best.groups), given.depth), abs=1e-12)
        assert seconds >= lower_bound(given, best.groups) * (1 - 1e-12) - 1e-12
        assert seconds <= one_after_the_other(given, best.groups) * (1 + 1e-12) + 1e-12
        for groups in [*uniform(given), *ramps(given)]:
            assert best.makespan <= schedule_of(given, groups, "fifo").makespan * (1 + 1e-12), given


def test_best_is_near_all_orders_of_all_groupings() -> None:
    """Within 2 % on at least 95 % of small instances: always with at most two buffers."""
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    near = count = 0
    while count < 120:
        given = random_problem(rng, max_units=2)
        groupings = [groups for groups in [*uniform(given), *ramps(given)] if len(groups) <= 5]
        if not groupings:
            continue
        orders = (order for groups in groupings for order in itertools.permutations(work_of(given, groups)))
        least = min(simulate(order, given.depth) for order in orders)
        count += 1
        near += (found := plan(given).makespan - given.handover_seconds) <= least * 1.02 + 1e-12
        if given.depth <= 2:
            assert found <= least * (1 + 1e-9) + 1e-12, given
    assert near >= 0.95 * count


@pytest.mark.parametrize(("heads", "count"), [(6, 200), (8, 50)])
def test_best_is_near_all_orders_of_everything_that_can_be_launched(heads: int, count: int) -> None:
    """Within 2 % on at least 95 % of small instances, also of groupings that the planners do not try."""
    rng = random.Random(SEED + heads)
    print(f"seed {SEED + heads}")
    near = done = 0
    while done < count:
        given = random_problem(rng, max_units=3)
        if given.num_heads > heads:
            continue
        least = float("inf")
        for groups in every_grouping(given):
            work = work_of(given, groups)
            if lower_bound(given, groups) < least:
                least = min(least, *(makespan(order, given.depth) for order in itertools.permutations(work)))
        found = plan(given).makespan - given.handover_seconds
        assert found >= least * (1 - 1e-9) - 1e-12, given
        near += found <= least * 1.02 + 1e-12
        done += 1
    assert near >= 0.95 * count, f"{near} of {count}"


def test_every_grouping_of_two_units_by_hand() -> None:
    """Each unit of two heads whole or halved, or both in one launch; with other buckets never both."""
    launch = {1: 0.1, 2: 0.1, 4: 0.1}
    assert len(set(every_grouping(problem(4, 2, launch_seconds=launch)))) == 5
    assert len(set(every_grouping(problem(4, 2, launch_seconds=launch, buckets=(0, 0, 1, 1))))) == 4
    assert len(set(every_grouping(problem(4, 2, launch_seconds=launch, buckets=(0, 1, 1, 1))))) == 2
    for groups in every_grouping(problem(12)):
        check(problem(12), schedule_of(problem(12), groups, "fifo"))


def test_layers_of_32_heads_share_a_plan_a_chunk() -> None:
    """A prompt of 4,096 tokens, 32 layers, in chunks of 256. What that costs is timed by benchmarks/planning.py."""
    launch = {1: 2e-3, 4: 4e-3, 8: 6e-3, 16: 1e-2, 32: 2e-2}  # the sizes that a bundle of 8 KV heads has
    chunks, layers = 16, 32
    cache = PlanCache()
    for chunk in range(chunks):
        cpu = (1e-4 * (1 + chunk),) * 32
        costs = {"launch_seconds": launch, "attend_seconds": cpu, "select_seconds": cpu}
        for _ in range(layers):
            cache.get(chunk, lambda costs=costs: problem(32, 4, **costs))
    assert (cache.misses, cache.hits) == (chunks, chunks * (layers - 1))


def test_a_schedule_begins_when_both_workers_are_under_way() -> None:
    """Every slot is later by the handover, and nothing else differs."""
    given = problem()
    late = dataclasses.replace(given, handover_seconds=0.005)
    for planner in ("fifo", "best"):
        one, other = plan(given, planner), plan(late, planner)
        check(late, other)
        assert other.groups == one.groups
        assert other.makespan == pytest.approx(one.makespan + 0.005)
        for early, slot in zip(one.slots, other.slots, strict=True):
            assert (slot.start, slot.end) == (pytest.approx(early.start + 0.005), pytest.approx(early.end + 0.005))
        with pytest.raises(ValueError, match=r"begins before 0\.005, when both workers are under way"):
            check(late, one)


def test_other_planners_are_valid_and_no_better() -> None:
    rng = random.Random(SEED + 1)
    print(f"seed {SEED + 1}")
    for _ in range(60):
        given = random_problem(rng, max_units=2)
        best = plan(given)
        for name in PLANNERS:
            if name == "exhaustive" and min(map(len, uniform(given))) > 7:
                continue
            schedule = plan(given, name)
            check(given, schedule)
            assert schedule.makespan >= best.makespan * (1 - 1e-12), (name, given)
            assert schedule.planner == name or name == "best"


def test_same_problem_same_schedule() -> None:
    rng = random.Random(SEED + 2)
    print(f"seed {SEED + 2}")
    for _ in range(20):
        given = random_problem(rng)
        assert plan(given) == plan(dataclasses.replace(given, launch_seconds=dict(given.launch_seconds)))


def test_every_grouping_is_valid() -> None:
    rng = random.Random(SEED + 3)
    print(f"seed {SEED + 3}")
    for _ in range(150):
        given = random_problem(rng, max_units=8)
        for groups in [*uniform(given), *ramps(given)]:
            check(given, schedule_of(given, groups, "fifo"))


def test_groupings_use_the_count_where_they_can() -> None:
    one, two, four = uniform(problem())
    assert heads_of(one) == [(head,) for head in range(8)]
    assert heads_of(two) == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert heads_of(four) == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_groupings_fall_back_where_buckets_or_remainders_prevent_it() -> None:
    split = problem(buckets=(0, 0, 0, 1, 2, 2, 2, 2))
    assert heads_of(uniform(split)[-1]) == [(0, 1), (2,), (3,), (4, 5, 6, 7)]
    pairs = problem(12, launch_seconds={1: 1.0, 4: 2.0, 8: 3.0}, buckets=(0,) * 4 + (1,) * 4 + (0,) * 4)
    assert heads_of(uniform(pairs)[-1]) == [(0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7)]
    threes = problem(3, 3, launch_seconds={1: 1.0, 2: 2.0})
    assert heads_of(uniform(threes)[-1]) == [(0, 1), (2,)]


def test_ramps_begin_heavy_and_end_light() -> None:
    """The last unit has the most CPU work, so its first head begins; the first unit's first head ends."""
    heads = [heads_of(groups) for groups in ramps(problem(12))]
    assert [(8,), (0, 1, 2, 3), (4, 5, 6, 7), (9, 10), (11,)] in heads
    assert [(8,), (1, 2), (3,), (4, 5, 6, 7), (9, 10), (11,), (0,)] in heads


def test_a_schedule_knows_each_heads_bucket() -> None:
    buckets = (0, 0, 0, 1, 2, 2, 2, 2)
    for planner in ("fifo", "best"):
        assert plan(problem(buckets=buckets), planner).buckets() == buckets


def test_launches_that_cannot_cover() -> None:
    with pytest.raises(ValueError, match="launches of 2 heads cannot cover the heads; allow launches of 1 head"):
        plan(problem(3, 3, launch_seconds={2: 1.0}))


def test_no_fusion_is_a_problem_with_one_launch() -> None:
    assert heads_of(tuple(sorted(plan(problem(launch_seconds={1: 0.002})).groups, key=lambda g: g.heads))) == [
        (head,) for head in range(8)
    ]


def test_bounds_by_hand() -> None:
    """Two groups of 4: estimates 4 + 4 ms; CPU 4 x 1 + (1 + 2 + 3 + 4) = 14 and 4 + 26 = 30 ms."""
    given = problem()
    groups = uniform(given)[-1]
    assert one_after_the_other(given, groups) == pytest.approx(0.052)
    assert lower_bound(given, groups) == pytest.approx(0.048)
    assert speedup_bound(given, groups) == pytest.approx(52 / 44)
    assert lower_bound(dataclasses.replace(given, depth=1), groups) == pytest.approx(0.052)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 3}, "wanted whole units of group_size 3"),
        ({"size": 0}, "wanted whole units of group_size 0"),
        ({"buckets": ()}, "got 0 buckets"),
        ({"depth": 0}, "at least 1, got 0"),
        ({"select_seconds": (0.1,) * 7}, "select_seconds: wanted one for each of 8 heads, got 7"),
        ({"attend_seconds": (float("nan"),) * 8}, "attend_seconds: wanted finite seconds"),
        ({"handover_seconds": float("inf")}, "handover_seconds: wanted finite seconds of at least 0, got inf"),
        ({"launch_seconds": {1: -0.1}}, "launch_seconds: wanted finite seconds of at least 0, got -0.1"),
        ({"launch_seconds": {}}, "launch_seconds is empty"),
        ({"launch_seconds": {6: 0.1}}, "6 heads are no group of 8 heads in units of 4"),
        ({"launch_seconds": {12: 0.1}}, "12 heads are no group"),
        ({"launch_seconds": {0: 0.1}}, "0 heads are no group"),
    ],
)
def test_problems_that_mean_nothing(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problem(**changes)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="planner 'genetic' is unknown; there are fifo, greedy"):
        plan(problem(), "genetic")
    with pytest.raises(ValueError, match="no grouping has at most 7 groups"):
        plan(problem(launch_seconds={1: 0.002}), "exhaustive")
    with pytest.raises(ValueError, match="no launch of 3 heads; there are 1, 2, 4"):
        schedule_of(problem(), [HeadGroup((0, 1, 2), 0)], "fifo")
    with pytest.raises(ValueError, match="at least one head group"):
        schedule_of(problem(), [], "fifo")


def _shifted(schedule: Schedule, index: int, seconds: float) -> Schedule:
    slot = schedule.slots[index]
    moved = dataclasses.replace(slot, start=slot.start + seconds, end=slot.end + seconds)
    return dataclasses.replace(schedule, slots=(*schedule.slots[:index], moved, *schedule.slots[index + 1 :]))


def test_the_check_finds_every_kind_of_fault() -> None:
    given = problem(12)
    valid = schedule_of(given, uniform(given)[-1], "fifo")
    check(given, valid)
    slot = valid.slots[0]
    long = dataclasses.replace(slot, end=slot.end + 1)
    faults = {
        "each of 12 heads in one group": dataclasses.replace(valid, groups=valid.groups[:2]),
        "no launch of 3 heads": _regrouped(given, valid, ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11))),
        "its heads' buckets are": dataclasses.replace(valid, groups=(HeadGroup((0, 1, 2, 3), 1), *valid.groups[1:])),
        "neither adjacent heads": _regrouped(given, valid, ((0, 2), (1, 3), (4, 5, 6, 7), (8, 9, 10, 11))),
        "one slot for each stage": dataclasses.replace(valid, slots=valid.slots[1:]),
        "runs on the cpu, wanted npu": _with_first(valid, dataclasses.replace(slot, resource="cpu")),
        r"lasts 1\.004": _with_first(valid, long),
        "begins before 0": _shifted(valid, 0, -0.001),
        "before its group's estimate": _shifted(valid, 0, 0.001),
        "does not follow its select": _shifted(valid, 2, 0.001),
        "before the estimate before it": _shifted(valid, 3, -0.001),
        "frees one of 2 buffers": _shifted(valid, 6, -0.001),
        "makespan is": dataclasses.replace(valid, makespan=valid.makespan * 2),
    }
    for message, schedule in faults.items():
        with pytest.raises(ValueError, match=message):
            check(given, schedule)


def _with_first(schedule: Schedule, slot: Any) -> Schedule:
    return dataclasses.replace(schedule, slots=(slot, *schedule.slots[1:]))


def _regrouped(given: Problem, schedule: Schedule, heads: tuple[tuple[int, ...], ...]) -> Schedule:
    return dataclasses.replace(schedule, groups=tuple(HeadGroup(some, 0) for some in heads))


def test_the_cache_plans_a_shape_once_and_forgets_the_oldest() -> None:
    cache = PlanCache(capacity=2, planner="greedy")
    made: list[int] = []

    def make(heads: int) -> Problem:
        made.append(heads)
        return problem(heads)

    for heads in (4, 8, 4, 12, 4, 8):
        assert cache.get(heads, lambda heads=heads: make(heads)) == plan(problem(heads), "greedy")
    assert made == [4, 8, 12, 8]
    assert (cache.hits, cache.misses, len(cache)) == (2, 4, 2)
    assert cache.seconds > 0
    with pytest.raises(ValueError, match="room for at least 1 schedule, got 0"):
        PlanCache(0)
