"""Opens and closes the delegate over and over, alone in a process: prints what a cycle adds to its resident memory."""

import ctypes
import json
from collections.abc import Callable

import numpy as np
from one_op import OneOp, Sizes
from resident_growth import cycle_arguments, growth, leaking

from shadowattn.runtime.litert.delegate import library_path


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


def main() -> None:
    leak = cycle_arguments().leak
    found = {"whole": growth(leaking(whole_cycle, leak), 200), "bare": growth(leaking(bare_cycle(), leak), 4000)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
