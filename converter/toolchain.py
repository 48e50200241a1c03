"""litert_torch, loaded without its noise.

Importing it prints a screenful about optional parts that are not needed here (torchao's CUDA kernels, oneDNN, pytree
deprecations); every conversion adds more. None of it tells a user anything, so it is suppressed; errors still come as
exceptions.
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from types import ModuleType

_NOISY_LOGGERS = ("torchao", "torch.utils._pytree", "jax", "transformers", "absl")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops warnings, the loggers above, and what C++ writes to standard error, until the block ends."""
    levels = {name: logging.getLogger(name).level for name in _NOISY_LOGGERS}
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), _standard_error_closed():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _standard_error_closed() -> Iterator[None]:
    """C++ logs straight to file descriptor 2, past sys.stderr."""
    saved = os.dup(2)
    with open(os.devnull, "w") as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def load() -> ModuleType:
    """The module litert_torch; torch.ops.tfl.* exist afterwards. ModuleNotFoundError without the extra `converter`."""
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    with quiet():
        import litert_torch
        from litert_torch.backend.experimental import torch_tfl  # noqa: F401

    return litert_torch
