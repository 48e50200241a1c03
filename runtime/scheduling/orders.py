"""Rules that order given groups: first come first served, greedy by idle gap, and Johnson's rule.

A rule takes the work of the groups and the depth, and returns their indices in launch order. Ties go to the lower
index, so that the same work always has the same order.
"""

from collections.abc import Callable, Sequence

from shadowattn.runtime.scheduling.problem import Work

Order = tuple[int, ...]
Rule = Callable[[Sequence[Work], int], Order]


def fifo(work: Sequence[Work], depth: int) -> Order:
    """The given order."""
    return tuple(range(len(work)))


def greedy(work: Sequence[Work], depth: int) -> Order:
    """At every step the group that leaves the CPU idle for the shortest time; the one with the most CPU work among
    equals. With planners.py's outer level, which tries every number of fused heads, this is our reading of the
    paper's greedy (arXiv 2508.16703, head-wise pipeline). Known of it here: it calls the problem NP-hard, searches
    greedily and measures fused launches; its rules for the first group and for ties are not, so these are ours."""
    left = list(range(len(work)))
    order: list[int] = []
    npu_free = 0.0
    ends = [0.0] * depth
    while left:
        slot = len(order) % depth
        begin, cpu_free = max(npu_free, ends[slot]), ends[slot - 1]
        chosen = min(left, key=lambda index: (max(0.0, begin + work[index][0] - cpu_free), -work[index][1], index))
        npu_free = begin + work[chosen][0]
        ends[slot] = max(npu_free, cpu_free) + work[chosen][1]
        left.remove(chosen)
        order.append(chosen)
    return tuple(order)


def johnson(work: Sequence[Work], depth: int) -> Order:
    """Johnson's rule (1954): groups whose estimate is the shorter part first, by ascending estimate, then the others by
    descending CPU seconds. Optimal where buffers are unbounded (depth >= number of groups). Campbell, Dudek and
    Smith's rule for three machines (1970) would try two merged problems; here select and attend run back to back on
    one CPU, so the three stages are two machines exactly and there is only one."""
    indices = range(len(work))
    front = sorted((index for index in indices if work[index][0] <= work[index][1]), key=lambda i: (work[i][0], i))
    back = sorted((index for index in indices if work[index][0] > work[index][1]), key=lambda i: (-work[i][1], i))
    return (*front, *back)
