"""What a kernel must do to be timed: take recorded rows, run once more when it is asked, show what it computed."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from recorded import Rows

# How an answer is judged (answers.py), by what is rounded on the way.
FLOAT32 = "float32"  # nothing but float32 sums
STORED = "float32, K and V stored as float16"
BFLOAT16 = "bfloat16"
INT8 = "int8"
SPARSE = "sparse"
LOSSY = "lossy by design"


@dataclasses.dataclass(frozen=True)
class OpStats:
    """Of our op, in one run: seconds of wall time per stage, and the share of values read. scores_int8: the stage
    `estimate` scores every causal pair in INT8."""

    seconds: dict[str, float]
    mean_keep_ratio: float
    scores_int8: bool


class Task(Protocol):
    """Recorded rows in the kernel's own layout."""

    def run(self) -> float:
        """Computes once and returns the seconds: of all rows (prefill), or of the next row (decode)."""
        ...

    def output(self) -> np.ndarray:
        """float32 [n,H,d] of the rows that the last run computed. Valid until the next run."""
        ...

    def take_stats(self) -> OpStats | None:
        """Of what ran since the last call; None for a kernel that has none."""
        ...


class Kernel(Protocol):
    """An implementation of causal attention. name: for tables; ours: of this project; exactness: one of the above."""

    @property
    def name(self) -> str: ...

    @property
    def ours(self) -> bool: ...

    @property
    def exactness(self) -> str: ...

    def prefill(self, rows: Rows) -> Task:
        """Every run attends all rows, from an empty cache."""
        ...

    def decode(self, rows: Rows, steps: int) -> Task:
        """The cache holds all but the last `steps` rows; every run appends and attends one more."""
        ...


class DenseTask:
    """A Task of functions: prepare() makes the arguments of the next run, compute(arguments) is timed, read() makes
    float32 [H,n,d] of what that returned."""

    def __init__(
        self,
        compute: Callable[[Any], Any],
        read: Callable[[Any], np.ndarray],
        prepare: Callable[[], Any] = lambda: None,
    ) -> None:
        self._prepare = prepare
        self._compute = compute
        self._read = read
        self._result: Any = None

    def run(self) -> float:
        arguments = self._prepare()
        begin = time.perf_counter()
        self._result = self._compute(arguments)
        return time.perf_counter() - begin

    def output(self) -> np.ndarray:
        return np.ascontiguousarray(self._read(self._result).transpose(1, 0, 2))

    def take_stats(self) -> OpStats | None:
        return None
