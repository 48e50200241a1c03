"""Candidate groupings: which heads share a launch.

`uniform` uses one number of heads wherever it can and smaller allowed ones where buckets or remainders prevent it.
`ramps` begin such a grouping with a smaller group, so that the CPU starts early, or end it with one, so that little is
left to do when the last estimate is there.
"""

import functools
import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence

from shadowattn.runtime.scheduling.problem import HeadGroup, Problem

Grouping = tuple[HeadGroup, ...]
_Carved = tuple[list[HeadGroup], list[HeadGroup], set[int]]  # the small group, the rest of its unit, the units taken


def uniform(problem: Problem) -> list[Grouping]:
    """One grouping for each allowed number of heads, the smallest first, without repeats; groups in order of their
    first head. Raises ValueError where the allowed numbers cannot cover the heads."""
    covers = (_cover(problem, _units(problem), most) for most in sorted(problem.launch_seconds))
    found = dict.fromkeys(_in_order(groups) for groups in covers if groups is not None)
    if not found:
        counts = ", ".join(map(str, sorted(problem.launch_seconds)))
        raise ValueError(f"launches of {counts} heads cannot cover the heads; allow launches of 1 head")
    return list(found)


def ramps(problem: Problem) -> list[Grouping]:
    """Uniform groupings but for a smaller first group (of the unit with the most CPU work), a smaller last one (of that
    with the least), or both; without repeats."""
    units = _units(problem)
    load = [problem.cpu_seconds(_heads(problem, unit)) for unit in units]
    heavy = sorted(units, key=lambda unit: (-load[unit], unit))
    light = sorted(units, key=lambda unit: (load[unit], unit))
    counts = sorted(problem.launch_seconds)
    found: dict[Grouping, None] = {}
    for most in counts:
        smaller = [0, *(few for few in counts if few < most)]
        for first, last in itertools.product(smaller, smaller):
            head = _carve(problem, heavy, first, most)
            tail = head and _carve(problem, [unit for unit in light if unit not in head[2]], last, most)
            if (first or last) and head and tail:
                left = [unit for unit in units if unit not in head[2] | tail[2]]
                middle = _cover(problem, left, most)
                if middle is not None:
                    found[(*head[0], *_in_order(head[1] + middle + tail[1]), *tail[0])] = None
    return list(found)


def _units(problem: Problem) -> range:
    return range(problem.num_heads // problem.group_size)


def _heads(problem: Problem, unit: int) -> range:
    return range(unit * problem.group_size, (unit + 1) * problem.group_size)


def _in_order(groups: Iterable[HeadGroup]) -> Grouping:
    return tuple(sorted(groups, key=lambda group: group.heads))


def _cover(problem: Problem, units: Sequence[int], most: int) -> list[HeadGroup] | None:
    """Groups of at most `most` heads over these units, the largest ones first; None where that cannot be."""
    groups, left = _whole_units(problem, units, most)
    for unit in left:
        parts = _parts(problem, _heads(problem, unit), most)
        if parts is None:
            return None
        groups += parts
    return groups


def _whole_units(problem: Problem, units: Sequence[int], most: int) -> tuple[list[HeadGroup], list[int]]:
    """Groups of whole units that share a bucket, and the units that remain."""
    size = problem.group_size
    sizes = tuple(count // size for count in problem.launch_seconds if count <= most and count % size == 0)
    by_bucket, left = _by_bucket(problem, units)
    groups = []
    for same in by_bucket.values():
        taken = 0
        for few in _packing(len(same), sizes):
            groups.append(_group_of_units(problem, same[taken : taken + few]))
            taken += few
        left += same[taken:]
    return groups, left


def _by_bucket(problem: Problem, units: Iterable[int]) -> tuple[dict[int, list[int]], list[int]]:
    """Units whose heads all take one bucket, by that bucket, and the others."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    mixed: list[int] = []
    for unit in units:
        buckets = {problem.buckets[head] for head in _heads(problem, unit)}
        (found[min(buckets)] if len(buckets) == 1 else mixed).append(unit)
    return found, mixed


def _group_of_units(problem: Problem, units: Sequence[int]) -> HeadGroup:
    heads = tuple(head for unit in sorted(units) for head in _heads(problem, unit))
    return HeadGroup(heads, problem.buckets[heads[0]])


def _parts(problem: Problem, heads: Sequence[int], most: int) -> list[HeadGroup] | None:
    """Adjacent heads of one unit in groups of at most `most` heads of one bucket; None where that cannot be."""
    sizes = tuple(count for count in problem.launch_seconds if count <= min(most, problem.group_size))
    groups = []
    for bucket, run in itertools.groupby(heads, key=lambda head: problem.buckets[head]):
        same = tuple(run)
        split = _exactly(len(same), sizes)
        if split is None:
            return None
        ends = list(itertools.accumulate(split))
        groups += [HeadGroup(same[end - few : end], bucket) for few, end in zip(split, ends, strict=True)]
    return groups


def _carve(problem: Problem, units: Sequence[int], few: int, most: int) -> _Carved | None:
    """A group of `few` heads from the first of these units that can give one; None where none can."""
    if few == 0:
        return [], [], set()
    if few % problem.group_size == 0:
        wanted = few // problem.group_size
        for same in _by_bucket(problem, units)[0].values():
            if len(same) >= wanted:
                return [_group_of_units(problem, same[:wanted])], [], set(same[:wanted])
        return None
    for unit in units:
        heads = _heads(problem, unit)
        rest = _parts(problem, heads[few:], most)
        if rest is not None and len({problem.buckets[head] for head in heads[:few]}) == 1:
            return [HeadGroup(tuple(heads[:few]), problem.buckets[heads[0]])], rest, {unit}
    return None


def _packing(length: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes whose sum is as near to length as it can be from below, the largest first."""
    sums = (_exactly(total, sizes) for total in range(length, 0, -1))
    return next((split for split in sums if split is not None), ())


@functools.lru_cache(maxsize=4096)
def _exactly(length: int, sizes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Sizes whose sum is length, the largest first; None where there are none."""
    if length == 0:
        return ()
    for size in sorted(sizes, reverse=True):
        if size <= length and (rest := _exactly(length - size, sizes)) is not None:
            return (size, *rest)
    return None
