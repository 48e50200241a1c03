"""The best order of a few groups: all of them tried, less those that cannot win any more."""

import dataclasses
from collections.abc import Sequence

from shadowattn.runtime.scheduling.orders import Order, johnson
from shadowattn.runtime.scheduling.problem import Work
from shadowattn.runtime.scheduling.timing import makespan

MAX_GROUPS = 7


def exhaustive(work: Sequence[Work], depth: int) -> Order:
    """Indices in launch order; Johnson's order where none is shorter. Raises ValueError above MAX_GROUPS."""
    if len(work) > MAX_GROUPS:
        raise ValueError(f"all orders of {len(work)} groups are too many (at most {MAX_GROUPS}); use another planner")
    start = johnson(work, depth)
    search = _Search(work, start, makespan([work[index] for index in start], depth))
    search.extend((), 0.0, (0.0,) * depth)
    return search.best


@dataclasses.dataclass
class _Search:
    work: Sequence[Work]
    best: Order
    makespan: float

    def extend(self, order: Order, npu_free: float, ends: tuple[float, ...]) -> None:
        """order: launched already; ends: of the CPU for the last `depth` groups, oldest first."""
        left = [index for index in range(len(self.work)) if index not in order]
        if not left:
            if ends[-1] < self.makespan:
                self.best, self.makespan = order, ends[-1]
            return
        estimates = npu_free + sum(self.work[index][0] for index in left) + min(self.work[index][1] for index in left)
        spans = ends[-1] + sum(self.work[index][1] for index in left)
        if max(estimates, spans) >= self.makespan:
            return
        tried = set()
        for index in left:
            estimate, cpu = self.work[index]
            if (estimate, cpu) not in tried:
                tried.add((estimate, cpu))
                launched = max(npu_free, ends[0]) + estimate
                self.extend((*order, index), launched, (*ends[1:], max(launched, ends[-1]) + cpu))
