"""Candidate groupings: which heads share a launch.

`uniform` uses one number of heads wherever it can and smaller allowed ones where buckets or remainders prevent it.
`ramps` begin such a grouping with a smaller group, so that the CPU starts early, or end it with one, so that little is
left to do when the last estimate is there.
"""

import dataclasses
import functools
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from shadowattn.runtime.scheduling.problem import HeadGroup, Problem

Grouping = tuple[HeadGroup, ...]
_Parts = tuple[int, ...]  # groups, as their places in a layout's
_Carved = tuple[_Parts, _Parts, tuple[int, ...]]  # the small group, the rest of its unit, the units taken


@dataclasses.dataclass(frozen=True)
class Candidates:
    """groups: every group of any grouping; uniform, ramps: groupings, as places of their groups in `groups`."""

    groups: Grouping
    uniform: tuple[tuple[int, ...], ...]
    ramps: tuple[tuple[int, ...], ...]

    def grouping(self, places: Iterable[int]) -> Grouping:
        return tuple(self.groups[place] for place in places)


def candidates(problem: Problem) -> Candidates:
    """Those of uniform() and ramps(). What they depend on is kept, so that a problem which differs in seconds alone
    costs a look-up. Raises ValueError where the allowed numbers of heads cannot cover the heads."""
    size, counts = problem.group_size, tuple(sorted(problem.launch_seconds))
    units = range(problem.num_heads // size)
    load = [problem.cpu_seconds(range(unit * size, (unit + 1) * size)) for unit in units]
    heavy = tuple(sorted(units, key=lambda unit: (-load[unit], unit)))
    light = tuple(sorted(units, key=lambda unit: (load[unit], unit)))
    found = _candidates(size, problem.buckets, counts, heavy, light)
    if not found.uniform:
        raise ValueError(
            f"launches of {', '.join(map(str, counts))} heads cannot cover the heads; allow launches of 1 head"
        )
    return found


def uniform(problem: Problem) -> list[Grouping]:
    """One grouping for each allowed number of heads, the smallest first, without repeats; groups in order of their
    first head. Raises ValueError where the allowed numbers cannot cover the heads."""
    found = candidates(problem)
    return [found.grouping(places) for places in found.uniform]


def ramps(problem: Problem) -> list[Grouping]:
    """Uniform groupings but for a smaller first group (of the unit with the most CPU work), a smaller last one (of that
    with the least), or both; without repeats. Raises as uniform()."""
    found = candidates(problem)
    return [found.grouping(places) for places in found.ramps]


def forget() -> None:
    """Drops the candidates that are kept, as in a new process."""
    _candidates.cache_clear()


@functools.lru_cache(maxsize=256)
def _candidates(
    size: int, buckets: tuple[int, ...], counts: tuple[int, ...], heavy: tuple[int, ...], light: tuple[int, ...]
) -> Candidates:
    """heavy, light: units by falling and by rising CPU work. Equal ones all cost the same; a smaller last group is
    then a smaller first one in another order, and which of the two is the larger makes no other grouping."""
    layout = _Layout(size, buckets, counts)
    most_of: dict[tuple[int, ...], int] = {}  # a larger number that no more heads can share divides them as before
    for most in counts:
        groups = layout.cover(most)
        if groups is not None:
            most_of.setdefault(layout.in_order(groups), most)
    uniform = tuple(most_of)
    ramps = dict.fromkeys(
        grouping
        for most in most_of.values()
        for first, last in itertools.product((0, *counts[: counts.index(most)]), repeat=2)
        if (first or last)
        and (first >= last or heavy != light)
        and (grouping := _ramp(layout, (heavy, light), (first, last), most)) is not None
    )
    return Candidates(tuple(layout.groups), uniform, tuple(ramps))


def _ramp(
    layout: "_Layout", orders: tuple[tuple[int, ...], tuple[int, ...]], ends: tuple[int, int], most: int
) -> tuple[int, ...] | None:
    """A first and a last group of as many heads as `ends` says, from the first units of these orders that can give
    them, and groups of at most `most` between; 0: no such group. None where that cannot be."""
    head = layout.carve(orders[0], ends[0], most)
    tail = head and layout.carve([unit for unit in orders[1] if unit not in head[2]], ends[1], most)
    if not head or not tail:
        return None
    middle = layout.cover(most, {*head[2], *tail[2]})
    if middle is None:
        return None
    return (*head[0], *layout.in_order([*head[1], *middle, *tail[1]]), *tail[0])


class _Layout:
    """The units of a model, and which of them may share a launch: worked out once for all groupings, which ask for the
    same parts again and again. groups: those asked for so far; methods return places in it."""

    def __init__(self, size: int, buckets: tuple[int, ...], counts: tuple[int, ...]) -> None:
        """counts: allowed numbers of heads, ascending."""
        self.groups: list[HeadGroup] = []
        self._first_heads: list[int] = []
        self._size = size
        self._buckets = buckets
        self._counts = counts
        self._whole, self._mixed = self._by_bucket(range(len(buckets) // size))
        self._places: dict[tuple[int, ...], int] = {}
        self._known_parts: dict[tuple[int, int, int], _Parts | None] = {}

    def in_order(self, places: Iterable[int]) -> _Parts:
        """By their first head."""
        return tuple(sorted(places, key=self._first_heads.__getitem__))

    def cover(self, most: int, without: Collection[int] = ()) -> list[int] | None:
        """Groups of at most `most` heads over all units but some, the largest ones first; None where that cannot be."""
        groups, left = self._whole_units(most, without)
        for unit in itertools.chain(self._mixed, left):
            if unit not in without:
                parts = self._parts(unit, 0, most)
                if parts is None:
                    return None
                groups += parts
        return groups

    def carve(self, units: Sequence[int], few: int, most: int) -> _Carved | None:
        """A group of `few` heads from the first of these units that can give one; None where none can."""
        if few == 0:
            return (), (), ()
        if few % self._size == 0:
            wanted = few // self._size
            for same in self._by_bucket(units)[0].values():
                if len(same) >= wanted:
                    return (self._group_of_units(same[:wanted]),), (), tuple(same[:wanted])
            return None
        for unit in units:
            heads = self._heads(unit)[:few]
            rest = self._parts(unit, few, most)
            if rest is not None and len({self._buckets[head] for head in heads}) == 1:
                return (self._group(tuple(heads)),), rest, (unit,)
        return None

    def _whole_units(self, most: int, without: Collection[int]) -> tuple[list[int], list[int]]:
        """Groups of whole units that share a bucket, and the units of one bucket that remain."""
        sizes = tuple(count // self._size for count in self._counts if count <= most and count % self._size == 0)
        groups, left = [], []
        for every in self._whole.values():
            same = [unit for unit in every if unit not in without]
            taken = 0
            for few in _packing(len(same), sizes):
                groups.append(self._group_of_units(same[taken : taken + few]))
                taken += few
            left += same[taken:]
        return groups, left

    def _parts(self, unit: int, start: int, most: int) -> _Parts | None:
        """Adjacent heads of one unit, from its start-th on, in groups of at most `most` heads of one bucket; None where
        that cannot be."""
        key = (unit, start, min(most, self._size))
        if key not in self._known_parts:
            self._known_parts[key] = self._divide(self._heads(unit)[start:], key[-1])
        return self._known_parts[key]

    def _divide(self, heads: Sequence[int], most: int) -> _Parts | None:
        sizes = tuple(count for count in self._counts if count <= most)
        groups = []
        for _, run in itertools.groupby(heads, key=self._buckets.__getitem__):
            same = tuple(run)
            split = _exactly(len(same), sizes)
            if split is None:
                return None
            end = 0
            for few in split:
                groups.append(self._group(same[end : end + few]))
                end += few
        return tuple(groups)

    def _by_bucket(self, units: Iterable[int]) -> tuple[dict[int, list[int]], list[int]]:
        """Units whose heads all take one bucket, by that bucket, and the others."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        mixed: list[int] = []
        for unit in units:
            buckets = self._buckets[unit * self._size : (unit + 1) * self._size]
            (found[buckets[0]] if buckets.count(buckets[0]) == self._size else mixed).append(unit)
        return found, mixed

    def _heads(self, unit: int) -> range:
        return range(unit * self._size, (unit + 1) * self._size)

    def _group_of_units(self, units: Sequence[int]) -> int:
        return self._group(tuple(head for unit in sorted(units) for head in self._heads(unit)))

    def _group(self, heads: tuple[int, ...]) -> int:
        place = self._places.get(heads)
        if place is None:
            place = self._places[heads] = len(self.groups)
            self.groups.append(HeadGroup(heads, self._buckets[heads[0]]))
            self._first_heads.append(heads[0])
        return place


@functools.lru_cache(maxsize=4096)
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
