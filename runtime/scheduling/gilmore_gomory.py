"""The best order for two estimate buffers, in O(n log n): Gilmore and Gomory's travelling salesman (1964).

With depth 2 the NPU is blocked until the CPU has taken the group before, so after the launch of group j the time to
the next one is max(b_i, a_j), i being the group before j: the makespan is the sum of these costs over consecutive
groups, with an empty group (0, 0) at both ends. This is the one-state-variable machine of P. C. Gilmore and
R. E. Gomory, Operations Research 12 (1964): match the sorted b to the sorted a, then join the cycles of that matching
by the cheapest swaps of neighbours, done in the right order.
"""

from collections.abc import Sequence

from shadowattn.runtime.scheduling.orders import Order
from shadowattn.runtime.scheduling.problem import Work


def gilmore_gomory(work: Sequence[Work], depth: int) -> Order:
    """Indices in launch order: optimal at depth 2, a heuristic at any other."""
    jobs = [*work, (0.0, 0.0)]
    rising_b = sorted(range(len(jobs)), key=lambda job: (jobs[job][1], job))
    rising_a = sorted(range(len(jobs)), key=lambda job: (jobs[job][0], job))
    after = list(rising_a)  # after[p]: what follows the job with the p-th smallest b
    for place in _swaps(jobs, rising_b, rising_a):
        after[place], after[place + 1] = after[place + 1], after[place]
    follows = dict(zip(rising_b, after, strict=True))
    empty = len(work)
    order = [follows[empty]]
    while len(order) < len(work):
        order.append(follows[order[-1]])
    return tuple(order)


def _swaps(jobs: Sequence[Work], rising_b: Sequence[int], rising_a: Sequence[int]) -> list[int]:
    """Places p whose successors trade with those of p + 1, in the order in which they must: a spanning tree of the
    matching's cycles, first those with a >= b from the last to the first, then the others from the first."""
    places = range(len(jobs) - 1)
    a = [jobs[job][0] for job in rising_a]
    b = [jobs[job][1] for job in rising_b]
    costs = [max(0.0, min(b[p + 1], a[p + 1]) - max(b[p], a[p])) for p in places]
    joined = _cycles(rising_b, rising_a)  # by place: a place of the same cycle, nearer to the one that names it
    enough = len(set(joined)) - 1

    def name(place: int) -> int:
        while joined[place] != place:
            joined[place] = place = joined[joined[place]]
        return place

    chosen: list[int] = []
    for place in sorted(places, key=costs.__getitem__):
        if len(chosen) == enough:
            break
        one, other = name(place), name(place + 1)
        if one != other:
            chosen.append(place)
            joined[other] = one
    upper = sorted((place for place in chosen if a[place] >= b[place]), reverse=True)
    return upper + sorted(place for place in chosen if a[place] < b[place])


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
