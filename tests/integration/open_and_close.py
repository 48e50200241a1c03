"""Opens and closes the delegate over and over, alone in a process: prints what a cycle adds to its resident memory.

`--leak=N` leaks N bytes a cycle on purpose, so that the reader can be seen to notice.
"""

import argparse
import ctypes
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
from one_op import OneOp, Sizes

from shadowattn.runtime.delegate import library_path

_PAGE = 4096
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


def whole_cycle() -> None:
    """A delegate, an interpreter, and one chunk in a cache."""
    sizes = Sizes(4)
    kv = np.zeros((1, sizes.time, sizes.num_kv_heads, sizes.head_dim), np.float32)
    q = np.zeros((1, sizes.time, sizes.num_heads, sizes.head_dim), np.float32)
    OneOp(sizes, mode="dense").run({"q": q, "k": kv, "v": kv}, 0)


def bare_cycle() -> Callable[[], None]:
    """A delegate that no interpreter sees."""
    library = ctypes.CDLL(str(library_path()))
    library.tflite_plugin_create_delegate.restype = ctypes.c_void_p
    library.tflite_plugin_destroy_delegate.argtypes = [ctypes.c_void_p]

    def cycle() -> None:
        library.tflite_plugin_destroy_delegate(library.tflite_plugin_create_delegate(None, None, 0, None))

    return cycle


def leaking(cycle: Callable[[], None], count: int) -> Callable[[], None]:
    """The same, and `count` bytes that are written to and never freed."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]

    def leaks() -> None:
        cycle()
        ctypes.memset(libc.malloc(count), 1, count)

    return leaks if count else cycle


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--leak", type=int, default=0)
    leak = parser.parse_args().leak
    found = {"whole": growth(leaking(whole_cycle, leak), 200), "bare": growth(leaking(bare_cycle(), leak), 4000)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
