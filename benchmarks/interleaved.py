"""Interleaved rounds: everything runs once a round, so that whatever else the machine does falls on all of it."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # end_to_end.py needs the order alone, and numpy in other processes
    import numpy as np
    from attention_kernel import Kernel, OpStats, Task

Item = TypeVar("Item")
Check = Callable[["Kernel", "np.ndarray"], float]


def order_of_round(items: Sequence[Item], number: int) -> list[Item]:
    """Every second round runs backwards, so that a drift favours none."""
    return list(items if number % 2 == 0 else reversed(items))


@dataclasses.dataclass(frozen=True)
class Timing:
    """Of one kernel: seconds of every run, relative error of the answer that was checked first; of the op's own counts
    the median run's."""

    kernel: "Kernel"
    seconds: list[float]
    error: float
    stats: "OpStats | None"

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def time_interleaved(tasks: "Sequence[tuple[Kernel, Task]]", runs: int, check: Check) -> list[Timing]:
    """Runs and checks each once in this process, which warms it up and is not counted; then `runs` rounds. Raises
    ValueError for a wrong answer, before anything is timed."""
    errors = []
    for kernel, task in tasks:
        task.run()
        errors.append(check(kernel, task.output()))
        task.take_stats()
    seconds: list[list[float]] = [[] for _ in tasks]
    stats: list[list[OpStats]] = [[] for _ in tasks]
    for number in range(runs):
        for index in order_of_round(range(len(tasks)), number):
            task = tasks[index][1]
            seconds[index].append(task.run())
            if (counts := task.take_stats()) is not None:
                stats[index].append(counts)
    return [
        Timing(kernel, taken, error, _median(counts))
        for (kernel, _), taken, error, counts in zip(tasks, seconds, errors, stats, strict=True)
    ]


def _median(runs: "Sequence[OpStats]") -> "OpStats | None":
    """Stage by stage; the share of what was read is the mean, as it differs from one decode step to the next."""
    if not runs:
        return None
    stages = {stage: statistics.median(run.seconds[stage] for run in runs) for stage in runs[0].seconds}
    share = statistics.fmean(run.mean_keep_ratio for run in runs)
    return dataclasses.replace(runs[0], seconds=stages, mean_keep_ratio=share)
