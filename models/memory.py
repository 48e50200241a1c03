"""How much memory this process may still take: of the machine, and of its control groups."""

import os
from pathlib import Path

from shadowattn.models import cgroup

_UNLIMITED = 1 << 62  # v1 writes a number of about 2**63 for no limit


def available_memory_bytes(root: Path = Path("/")) -> int | None:
    """The least that the machine and any group around this process have left. None where the system does not say.

    root: where /proc and /sys are looked for (tests pass a folder of their own).
    """
    found = [*_machine(root), *(int(left) for left in cgroup.limits(root, "memory", _version_2, _version_1))]
    if not found and hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def _machine(root: Path) -> list[int]:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return []
    return [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]


def _version_2(folder: Path) -> float | None:
    return _left(folder, "memory.max", "memory.current", ("inactive_file", "active_file"))


def _version_1(folder: Path) -> float | None:
    names = ("total_inactive_file", "total_active_file")
    return _left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", names)


def _left(folder: Path, limit: str, used: str, cache: tuple[str, ...]) -> float | None:
    """Limit minus use; what caches files is given back when it is needed, so it does not count as use."""
    most = _number(folder / limit)
    if most is None or most >= _UNLIMITED:
        return None
    stat = cgroup.words(folder / "memory.stat")
    numbers = dict(zip(stat[::2], stat[1::2], strict=False))
    cached = sum(int(numbers[name]) for name in cache if numbers.get(name, "").isdecimal())
    return max(0, most - (_number(folder / used) or 0) + cached)


def _number(file: Path) -> int | None:
    """The number a file holds; None for "max", an empty file or no such file."""
    words = cgroup.words(file)
    return int(words[0]) if words and words[0].isdecimal() else None
