"""How many threads this process may use: CPU affinity and the cgroup's CPU quota, whichever is less."""

import math
import os
from collections.abc import Callable
from pathlib import Path

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
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            limits += _ancestors(root / "sys/fs/cgroup", path, _quota_v2)
        elif "cpu" in controllers.split(","):
            for mount in (controllers, "cpu"):
                limits += _ancestors(root / "sys/fs/cgroup" / mount, path, _quota_v1)
    return min(limits, default=None)


def _ancestors(mount: Path, path: str, read: Callable[[Path], float | None]) -> list[float]:
    """Limits of a cgroup and all above it. In a container the path may not exist below the mount."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    folders = [mount.joinpath(*parts[:count]) for count in range(len(parts) + 1)]
    return [limit for folder in folders if (limit := read(folder)) is not None]


def _quota_v2(folder: Path) -> float | None:
    words = _words(folder / "cpu.max")
    return None if len(words) != 2 or words[0] == "max" else _ratio(words[0], words[1])


def _quota_v1(folder: Path) -> float | None:
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    return None if len(quota) != 1 or len(period) != 1 else _ratio(quota[0], period[0])


def _ratio(quota: str, period: str) -> float | None:
    try:
        limit = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return limit if limit > 0 else None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
