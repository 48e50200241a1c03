"""How many threads this process may use: CPU affinity and the cgroup's CPU quota, whichever is less."""

import math
import os
from pathlib import Path

from shadowattn.models import cgroup

MOST_THREADS = 64


def default_num_threads(root: Path = Path("/")) -> int:
    """Threads for a session when nobody asked for a number: at least 1, at most 64.

    root: where /proc and /sys are looked for (tests pass a folder of their own).
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = cgroup_cpus(root)
    usable = affinity if quota is None else min(affinity, max(1, math.ceil(quota)))
    return max(1, min(usable, MOST_THREADS))


def cgroup_cpus(root: Path = Path("/")) -> float | None:
    """CPUs that the cgroup (v2 or v1) and its ancestors grant, None for no limit or no cgroup."""
    return min(cgroup.limits(root, "cpu", _quota_v2, _quota_v1), default=None)


def _quota_v2(folder: Path) -> float | None:
    words = cgroup.words(folder / "cpu.max")
    return None if len(words) != 2 or words[0] == "max" else _ratio(words[0], words[1])


def _quota_v1(folder: Path) -> float | None:
    quota, period = cgroup.words(folder / "cpu.cfs_quota_us"), cgroup.words(folder / "cpu.cfs_period_us")
    return None if len(quota) != 1 or len(period) != 1 else _ratio(quota[0], period[0])


def _ratio(quota: str, period: str) -> float | None:
    try:
        limit = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return limit if limit > 0 else None
