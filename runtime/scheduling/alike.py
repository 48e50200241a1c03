"""Layers that may be divided in the same ways share a plan: which buckets their heads take does not matter, only which
heads take the same one.

Heads of one unit may share a launch if they are adjacent and take one bucket; whole units if all of their heads do. So
a layer is described by the runs of equal buckets within each unit, and by which whole units share theirs. Where all
heads cost the same, units with the same description may trade places too.
"""

import dataclasses
import itertools
from collections.abc import Hashable, Sequence

from shadowattn.runtime.scheduling.problem import HeadGroup
from shadowattn.runtime.scheduling.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class Alike:
    """A layer and the one that stands for it. group_size: heads of a unit; buckets: of this layer, by head; key: the
    other's; units: by the other's unit, which of this layer's it stands for."""

    group_size: int
    buckets: tuple[int, ...]
    key: tuple[int, ...]
    units: tuple[int, ...]

    def own(self, schedule: Schedule) -> Schedule:
        """A schedule of the other layer as this layer's: the same times, this one's heads and buckets."""
        if self.key == self.buckets and self.units == tuple(range(len(self.units))):
            return schedule
        size = self.group_size
        groups = []
        for group in schedule.groups:
            heads = tuple(sorted(self.units[head // size] * size + head % size for head in group.heads))
            groups.append(HeadGroup(heads, self.buckets[heads[0]]))
        return dataclasses.replace(schedule, groups=tuple(groups))


def alike(buckets: Sequence[int], group_size: int, in_order: bool = False) -> Alike:
    """buckets: of scales, by head. in_order: units keep their places, for a planner that goes by them; otherwise all
    heads must cost the same."""
    own = tuple(buckets)
    whole: dict[Hashable, list[int]] = {}  # units of one bucket, by it
    mixed: list[tuple[tuple[int, ...], int]] = []  # (lengths of runs, unit)
    for unit in range(len(own) // group_size):
        taken = own[unit * group_size : (unit + 1) * group_size]
        if taken.count(taken[0]) == group_size:
            whole.setdefault(taken[0], []).append(unit)
        else:
            mixed.append((tuple(len(list(run)) for _, run in itertools.groupby(taken)), unit))
    classes = list(whole.values()) if in_order else sorted(whole.values(), key=len, reverse=True)
    described = [(unit, (label,) * group_size) for label, units in enumerate(classes) for unit in units]
    described += [(unit, _runs(lengths)) for lengths, unit in (mixed if in_order else sorted(mixed))]
    if in_order:
        described.sort()
    key = tuple(itertools.chain.from_iterable(labels for _, labels in described))
    return Alike(group_size, own, key, tuple(unit for unit, _ in described))


def _runs(lengths: Sequence[int]) -> tuple[int, ...]:
    """Labels 0, 1, 0, ... of runs of these lengths."""
    return tuple(place % 2 for place, length in enumerate(lengths) for _ in range(length))
