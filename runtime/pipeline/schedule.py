"""How the query heads of a layer are divided into groups, and in which order these are launched: pure planning.

A *unit* is one KV head with its query heads. A *head group* is a part of one unit, adjacent heads, or some whole units;
its estimate is one launch. Its heads take one scale bucket.

The two workers are a flow shop of two machines whose buffers are bounded. With a the seconds of an estimate, b those of
selecting and attending and d the estimate buffers, in launch order:
estimate_start[i] = max(estimate_end[i-1], attend_end[i-d]);  attend_start[i] = max(estimate_end[i], attend_end[i-1]).
"""

import dataclasses
import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Work = tuple[float, float]  # seconds of a group: of its estimate, of selecting and attending
Order = tuple[int, ...]  # indices in launch order


@dataclasses.dataclass(frozen=True)
class HeadGroup:
    """Query heads whose estimate is one launch, and the scale bucket of all of them."""

    heads: tuple[int, ...]
    bucket: int


class Times(NamedTuple):
    """When a group's estimate and its attend begin and end, in seconds of the layer."""

    estimate_start: float
    estimate_end: float
    attend_start: float
    attend_end: float


@dataclasses.dataclass(frozen=True)
class Schedule:
    """groups: in launch order, which is the order of attending too; times: theirs."""

    groups: tuple[HeadGroup, ...]
    times: tuple[Times, ...]

    @property
    def makespan(self) -> float:
        """Seconds until the last group is attended."""
        return self.times[-1].attend_end


def make_schedule(
    costs: Mapping[int, Work], buckets: tuple[int, ...], group_size: int, planner: str = "best", depth: int = 2
) -> Schedule:
    """The shortest schedule of those with one number of fused heads wherever it can be had, each ordered by the
    planner's rule. costs: of a group by its number of heads, the allowed numbers; buckets: of scales, by head; depth:
    estimate buffers, 1: nothing overlaps. Raises ValueError where the allowed numbers cannot cover the heads."""
    found = []
    for groups in groupings(buckets, group_size, tuple(sorted(costs))):
        work = [costs[len(group.heads)] for group in groups]
        order = PLANNERS[planner](work, depth)
        times = timing([work[index] for index in order], depth)
        found.append(Schedule(tuple(groups[index] for index in order), tuple(times)))
    return min(found, key=lambda schedule: schedule.makespan)


def timing(work: Sequence[Work], depth: int) -> list[Times]:
    """Every stage as early as it can be, in this order."""
    free = 0.0  # the estimates' worker
    ends = [0.0] * depth  # of attending, a ring: ends[i % depth] is group i's
    found = []
    for index, (estimate, attend) in enumerate(work):
        start = max(free, ends[index % depth])
        free = start + estimate
        attend_start = max(free, ends[index % depth - 1])
        ends[index % depth] = attend_start + attend
        found.append(Times(start, free, attend_start, attend_start + attend))
    return found


# --- orders; ties go to the lower index, so that the same work always has the same order ---


def fifo(work: Sequence[Work], depth: int) -> Order:
    """The given order."""
    return tuple(range(len(work)))


def greedy(work: Sequence[Work], depth: int) -> Order:
    """At every step the group that leaves attending idle for the shortest time; the one with the most of it among
    equals. With make_schedule()'s outer level, which tries every number of fused heads, this is our reading of the
    paper's greedy (arXiv 2508.16703, head-wise pipeline). Known of it here: it calls the problem NP-hard, searches
    greedily and measures fused launches; its rules for the first group and for ties are not, so these are ours."""
    left = list(range(len(work)))
    order: list[int] = []
    free, ends = 0.0, [0.0] * depth  # as in timing()
    while left:
        slot = len(order) % depth
        start, idle_from = max(free, ends[slot]), ends[slot - 1]
        chosen = min(left, key=lambda index: (max(0.0, start + work[index][0] - idle_from), -work[index][1], index))
        free = start + work[chosen][0]
        ends[slot] = max(free, idle_from) + work[chosen][1]
        left.remove(chosen)
        order.append(chosen)
    return tuple(order)


def gilmore_gomory(work: Sequence[Work], depth: int) -> Order:
    """The best order for two buffers.

    With depth 2 an estimate waits until attending has begun with the group before, so after the launch of group j the
    time to the next one is max(b_i, a_j), i being the group before j: the makespan is the sum of these over consecutive
    groups, with an empty group (0, 0) at both ends. This is the one-state-variable machine of P. C. Gilmore and R. E.
    Gomory, Operations Research 12 (1964): match the sorted b to the sorted a, then join the cycles of that matching by
    the cheapest swaps of neighbours, first those with a >= b from the last on, then the others from the first on.
    """
    jobs = [*work, (0.0, 0.0)]
    rising_a, rising_b = (sorted(range(len(jobs)), key=lambda job: (jobs[job][side], job)) for side in (0, 1))
    a, b = [jobs[job][0] for job in rising_a], [jobs[job][1] for job in rising_b]
    after = list(rising_a)  # after[p]: what follows the job with the p-th smallest b
    cycle = _cycles(rising_b, rising_a)
    swaps = []  # places whose successors trade with those of the next place: a spanning tree of the cycles
    for place in sorted(range(len(work)), key=lambda p: max(0.0, min(b[p + 1], a[p + 1]) - max(b[p], a[p]))):
        one, other = cycle[place], cycle[place + 1]
        if one != other:
            swaps.append(place)
            cycle = [one if label == other else label for label in cycle]
    for place in sorted(swaps, key=lambda p: (0, -p) if a[p] >= b[p] else (1, p)):
        after[place], after[place + 1] = after[place + 1], after[place]
    follows = dict(zip(rising_b, after, strict=True))
    order = [follows[len(work)]]
    while len(order) < len(work):
        order.append(follows[order[-1]])
    return tuple(order)


def _cycles(rising_b: Sequence[int], rising_a: Sequence[int]) -> list[int]:
    """By place: a label of the cycle of (job at rising_b[p] -> job at rising_a[p]) that it lies on."""
    place_of = {job: place for place, job in enumerate(rising_b)}
    labels = [-1] * len(rising_b)
    for start in range(len(rising_b)):
        place = start
        while labels[place] < 0:
            labels[place] = start
            place = place_of[rising_a[place]]
    return labels


PLANNERS: Mapping[str, Callable[[Sequence[Work], int], Order]] = {
    "best": gilmore_gomory,
    "fifo": fifo,
    "greedy": greedy,
}


# --- groupings ---


def adjacent(heads: Sequence[int]) -> list[tuple[int, ...]]:
    """Ascending heads as runs of neighbours."""
    runs = itertools.groupby(enumerate(heads), key=lambda item: item[1] - item[0])
    return [tuple(head for _, head in run) for _, run in runs]


@functools.lru_cache(maxsize=1024)
def groupings(buckets: tuple[int, ...], group_size: int, counts: tuple[int, ...]) -> list[tuple[HeadGroup, ...]]:
    """One for each allowed number of heads, `counts`, ascending and without repeats: that number wherever it can be
    had, smaller ones where buckets or remainders prevent it; groups by their first head. Raises ValueError."""
    found: dict[tuple[HeadGroup, ...], None] = {}
    for place in range(1, len(counts) + 1):
        divided = _divide(buckets, group_size, counts[:place])
        if divided is not None:
            found.setdefault(tuple(HeadGroup(heads, buckets[heads[0]]) for heads in sorted(divided)))
    if not found:
        there = ", ".join(map(str, counts))
        raise ValueError(f"launches of {there} heads cannot cover the heads; allow launches of 1 head")
    return list(found)


def _divide(buckets: tuple[int, ...], group_size: int, counts: tuple[int, ...]) -> list[tuple[int, ...]] | None:
    """All heads in groups of as many as there can be of `counts`; None where they cannot cover the heads."""
    whole: defaultdict[int, list[tuple[int, ...]]] = defaultdict(list)  # units whose heads all take one bucket, by it
    runs: list[tuple[int, ...]] = []  # adjacent heads of a unit with one bucket
    for start in range(0, len(buckets), group_size):
        unit = range(start, start + group_size)
        own = [tuple(run) for _, run in itertools.groupby(unit, key=buckets.__getitem__)]
        (whole[buckets[start]] if len(own) == 1 else runs).extend(own)
    groups: list[tuple[int, ...]] = []
    fused = [count for count in counts if count % group_size == 0]
    for units in whole.values():
        left = _cut(tuple(itertools.chain.from_iterable(units)), fused, groups)
        runs += [left[start : start + group_size] for start in range(0, len(left), group_size)]
    for run in runs:
        if _cut(run, counts, groups):
            return None
    return groups


def _cut(heads: tuple[int, ...], counts: Sequence[int], groups: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Adds groups from the front, the largest ones first; returns the heads that are left."""
    for count in sorted(counts, reverse=True):
        while len(heads) >= count:
            groups.append(heads[:count])
            heads = heads[count:]
    return heads
