"""Memory that may still be taken: the least of the machine and of every control group around the process."""

from pathlib import Path

import pytest

from shadowattn.models.memory import available_memory_bytes

MIB = 1 << 20
MACHINE = {"proc/meminfo": f"MemTotal: {64 << 20} kB\nMemAvailable: {32 << 20} kB\n"}
NO_LIMIT_V1 = "9223372036854771712\n"


def group(folder: str, limit: str, used: int = 0, cached: int = 0, version: int = 2) -> dict[str, str]:
    """The files of one group: a limit and what is used of it, `cached` of that for files."""
    if version == 2:
        names, stat = ("memory.max", "memory.current"), f"anon 5\ninactive_file {cached}\nactive_file 0\n"
    else:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        stat = f"cache 5\ntotal_inactive_file {cached // 2}\ntotal_active_file {cached - cached // 2}\n"
    files = {names[0]: limit, names[1]: f"{used}\n", "memory.stat": stat}
    return {f"sys/fs/cgroup/{folder}/{name}": content for name, content in files.items()}


SITUATIONS = {
    "no system that says": ({}, None),
    "no group": (MACHINE, 32 << 30),
    "v2, no limit": (MACHINE | {"proc/self/cgroup": "0::/a\n"} | group("a", "max\n"), 32 << 30),
    "v2, own group": (MACHINE | {"proc/self/cgroup": "0::/a\n"} | group("a", f"{512 * MIB}\n", 200 * MIB), 312 * MIB),
    "v2, cache of files is given back": (
        MACHINE | {"proc/self/cgroup": "0::/a\n"} | group("a", f"{512 * MIB}\n", 500 * MIB, 300 * MIB),
        312 * MIB,
    ),
    "v2, nested: the one above is tighter": (
        MACHINE
        | {"proc/self/cgroup": "0::/a/b/c\n"}
        | group("a", f"{300 * MIB}\n", 100 * MIB)
        | group("a/b", "max\n")
        | group("a/b/c", f"{900 * MIB}\n"),
        200 * MIB,
    ),
    "v2, a container whose path is not below its mount": (
        MACHINE | {"proc/self/cgroup": "0::/docker/0123\n"} | group(".", f"{400 * MIB}\n", 100 * MIB),
        300 * MIB,
    ),
    "v2 beside v1, mounted at unified": (
        MACHINE | {"proc/self/cgroup": "1:cpu:/x\n0::/a\n"} | group("unified/a", f"{400 * MIB}\n"),
        400 * MIB,
    ),
    "v1, own group": (
        MACHINE
        | {"proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/box\n"}
        | group("memory/m", f"{256 * MIB}\n", 100 * MIB, 50 * MIB, version=1),
        206 * MIB,
    ),
    "v1, nested": (
        MACHINE
        | {"proc/self/cgroup": "4:memory:/m/n\n"}
        | group("memory", NO_LIMIT_V1, 9 * MIB, version=1)
        | group("memory/m", f"{100 * MIB}\n", 30 * MIB, version=1)
        | group("memory/m/n", f"{256 * MIB}\n", version=1),
        70 * MIB,
    ),
    "v1, no limit": (
        MACHINE | {"proc/self/cgroup": "4:memory:/\n"} | group("memory", NO_LIMIT_V1, version=1),
        32 << 30,
    ),
    "more used than allowed": (
        MACHINE | {"proc/self/cgroup": "0::/a\n"} | group("a", f"{100 * MIB}\n", 120 * MIB),
        0,
    ),
    "a limit without figures of use": (
        MACHINE | {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": f"{100 * MIB}\n"},
        100 * MIB,
    ),
    "files that are damaged": (
        MACHINE | {"proc/self/cgroup": "nonsense\n0::/a\n", "sys/fs/cgroup/a/memory.max": "-5 x\n"},
        32 << 30,
    ),
}


@pytest.mark.parametrize(("files", "wanted"), SITUATIONS.values(), ids=SITUATIONS.keys())
def test_the_tightest_limit_counts(
    files: dict[str, str], wanted: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.setattr("os.sysconf_names", {})
    assert available_memory_bytes(tmp_path) == wanted
