"""What the control groups of this process allow: one walk through v2 and v1, for CPUs and for memory.

A process may use what its group and every group above it grant. In a container the path that /proc names may not exist
below the mount; the mount itself is then the container's group.
"""

from collections.abc import Callable
from pathlib import Path

Reader = Callable[[Path], float | None]  # folder of a group -> what it grants, None for no limit


def limits(root: Path, controller: str, version_2: Reader, version_1: Reader) -> list[float]:
    """What the groups of a controller (cpu, memory) grant, of this process's group and all above it.

    root: where /proc and /sys are looked for (tests pass a folder of their own).
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    mounts = root / "sys/fs/cgroup"
    found: list[float] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            for mount in (mounts, mounts / "unified"):  # the second on machines that mount both versions
                found += _ancestors(mount, path, version_2)
        elif controller in controllers.split(","):
            for mount in dict.fromkeys((mounts / controllers, mounts / controller)):
                found += _ancestors(mount, path, version_1)
    return found


def words(file: Path) -> list[str]:
    """The words of a file; none if it cannot be read."""
    try:
        return file.read_text().split()
    except (OSError, UnicodeDecodeError):
        return []


def _ancestors(mount: Path, path: str, read: Reader) -> list[float]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    folders = [mount.joinpath(*parts[:count]) for count in range(len(parts) + 1)]
    return [limit for folder in folders if (limit := read(folder)) is not None]
