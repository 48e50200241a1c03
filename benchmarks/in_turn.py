"""Times kernels in turn, in one process: whatever else the machine does falls on all of them."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence

import numpy as np
from attention_kernel import Kernel, OpStats, Task

Check = Callable[[Kernel, np.ndarray], float]
Note = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Timing:
    """Of one kernel: seconds of every run, relative error of the answer that was checked first; of the op's own counts
    the median run's."""

    kernel: Kernel
    seconds: list[float]
    error: float
    stats: OpStats | None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def time_in_turn(tasks: Sequence[tuple[Kernel, Task]], runs: int, check: Check) -> list[Timing]:
    """Runs and checks each once, which warms it up and is not counted; then `runs` rounds, every second one backwards.
    Raises ValueError for a wrong answer, before anything is timed."""
    errors = []
    for kernel, task in tasks:
        task.run()
        errors.append(check(kernel, task.output()))
        task.take_stats()
    seconds: list[list[float]] = [[] for _ in tasks]
    stats: list[list[OpStats]] = [[] for _ in tasks]
    order = list(range(len(tasks)))
    for turn in range(runs):
        for index in order if turn % 2 == 0 else reversed(order):
            task = tasks[index][1]
            seconds[index].append(task.run())
            if (counts := task.take_stats()) is not None:
                stats[index].append(counts)
    return [
        Timing(kernel, taken, error, _median(counts))
        for (kernel, _), taken, error, counts in zip(tasks, seconds, errors, stats, strict=True)
    ]


def _median(runs: Sequence[OpStats]) -> OpStats | None:
    """Stage by stage; the share of what was read is the mean, as it differs from one decode step to the next."""
    if not runs:
        return None
    stages = {stage: statistics.median(run.seconds[stage] for run in runs) for stage in runs[0].seconds}
    return OpStats(stages, statistics.fmean(run.mean_keep_ratio for run in runs), runs[0].scores_int8)
