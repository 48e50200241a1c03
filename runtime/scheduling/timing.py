"""When the groups of a given order run: a two-machine flow shop whose buffers are bounded.

With a the estimates, b the CPU's seconds and d the depth, in launch order:
estimate_start[i] = max(estimate_end[i-1], cpu_end[i-d]);  cpu_start[i] = max(estimate_end[i], cpu_end[i-1]).
"""

from collections.abc import Sequence

from shadowattn.runtime.scheduling.problem import Work


def starts(work: Sequence[Work], depth: int) -> list[tuple[float, float]]:
    """Seconds at which the estimate and the CPU's span of each group begin, both as soon as they can."""
    npu_free = 0.0
    ends = [0.0] * depth  # the CPU's last ends, a ring: ends[i % depth] is of group i
    found = []
    for position, (estimate, cpu) in enumerate(work):
        slot = position % depth
        begin = max(npu_free, ends[slot])
        npu_free = begin + estimate
        cpu_begin = max(npu_free, ends[slot - 1])
        ends[slot] = cpu_begin + cpu
        found.append((begin, cpu_begin))
    return found


def makespan(work: Sequence[Work], depth: int) -> float:
    """Seconds until the CPU is done with the last group."""
    return starts(work, depth)[-1][1] + work[-1][1]
