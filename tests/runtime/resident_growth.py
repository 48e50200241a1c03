"""What a cycle adds to the resident memory of a process: measured in a process of its own, by a script that prints it.

In a process that has run other tests the allocator's own moods are larger than a leak worth finding.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cli_runner import environment

_PARTS = 5


def growth(cycle: Callable[[], None], cycles: int) -> float:
    """Bytes a cycle: the median over five parts of `cycles` each, after as many that are not counted. A leak makes
    every part grow, an allocator that takes another arena makes one."""
    taken = []
    for part in range(1 + _PARTS):
        before = _resident()
        for _ in range(cycles):
            cycle()
        if part:
            taken.append((_resident() - before) / cycles)
    return statistics.median(taken)


def leaking(cycle: Callable[[], None], count: int) -> Callable[[], None]:
    """The same, and `count` bytes that are written to and never freed."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]

    def leaks() -> None:
        cycle()
        ctypes.memset(libc.malloc(count), 1, count)

    return leaks if count else cycle


def cycle_arguments(*names: str) -> argparse.Namespace:
    """What a script of cycles is called with: `names`, and `--leak=N`, which leaks N bytes a cycle on purpose, so
    that the reader can be seen to notice."""
    parser = argparse.ArgumentParser()
    for name in names:
        parser.add_argument(name)
    parser.add_argument("--leak", type=int, default=0)
    return parser.parse_args()


def growth_of(script: Path, *args: str) -> dict[str, float]:
    """Bytes that a cycle of each kind adds, as `script` prints them."""
    command = [sys.executable, str(script), *args]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
