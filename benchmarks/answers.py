"""Whether a kernel's answer is right, before it is timed: float64 attention of some rows says what it must be."""

import dataclasses

import numpy as np
from attention_kernel import BFLOAT16, FLOAT32, INT8, LOSSY, SPARSE, STORED, Kernel
from recorded import Rows

_CHECKED_ROWS = 24
_FLOAT_SLACK = 8  # times float32 epsilon x magnitude: orders of summation and polynomials of exp differ
# |got - want| / |want| over all checked rows. Loose: SmolLM2 has 0.01, 0.05 and 0.05 to 0.1 for the first three, and an
# answer that is broken (zeros, another head's values, the mean of all values) is 0.7 and more away.
_LOOSE = {BFLOAT16: 0.1, INT8: 0.15, SPARSE: 0.35, LOSSY: 0.9}


@dataclasses.dataclass(frozen=True)
class Expected:
    """Row indices [R] (of the output), and for them float64 [R,H,d]: the answer and how wrong float32 may make it."""

    at: np.ndarray
    want: np.ndarray
    tolerance: np.ndarray


class Oracle:
    """float64 attention of some rows of a text, and of the same with K and V rounded to float16, as a cache has."""

    def __init__(self, rows: Rows, first: int, last: int) -> None:
        """Checks rows first .. last-1 of the text, spread evenly, both ends included; output row 0 is `first`."""
        positions = np.unique(np.linspace(first, last - 1, _CHECKED_ROWS).astype(int))
        self._exact = _attend(rows, positions, rows.k, rows.v, first)
        k, v = (array.astype(np.float16).astype(np.float32) for array in (rows.k, rows.v))
        self._stored = _attend(rows, positions, k, v, first)
        self._bounded = not rows.tiled

    def check(self, kernel: Kernel, output: np.ndarray) -> float:
        """output [n,H,d] -> relative error over the checked rows. Raises ValueError for a wrong answer."""
        expected = self._stored if kernel.exactness == STORED else self._exact
        got = output[expected.at].astype(np.float64)
        if got.shape != expected.want.shape or not np.isfinite(got).all():
            raise ValueError(f"{kernel.name}: WRONG ANSWER: shape {got.shape}, or NaN in it; nothing was timed")
        error = float(np.linalg.norm(got - expected.want) / np.linalg.norm(expected.want))
        if kernel.exactness in (FLOAT32, STORED):
            worst = float((np.abs(got - expected.want) / expected.tolerance).max())
            if worst > 1:
                raise ValueError(
                    f"{kernel.name}: WRONG ANSWER: {worst:.3g} times further off than float32 allows (relative error "
                    f"{error:.3g}); nothing was timed"
                )
        elif self._bounded and error > _LOOSE[kernel.exactness]:
            limit = _LOOSE[kernel.exactness]
            raise ValueError(f"{kernel.name}: WRONG ANSWER: relative error {error:.3g}, wanted at most {limit}")
        return error


def _attend(rows: Rows, positions: np.ndarray, k: np.ndarray, v: np.ndarray, first: int) -> Expected:
    """Softmax attention of the rows at `positions` over k and v [n,N_kv,d] up to each of them."""
    heads, dim = rows.q.shape[1:]
    want = np.empty((len(positions), heads, dim))
    tolerance = np.empty_like(want)
    epsilon = np.finfo(np.float32).eps
    for index, position in enumerate(positions.tolist()):
        for head in range(heads):
            keys, values = (side[: position + 1, head // rows.group].astype(np.float64) for side in (k, v))
            query = rows.q[position, head].astype(np.float64)
            logits = rows.scale * (keys @ query)
            weights = np.exp(logits - logits.max())
            weights /= weights.sum()
            want[index, head] = weights @ values
            # A logit is off by epsilon times the sum of its terms' magnitudes, and its weight by as much, relatively.
            sizes = rows.scale * (np.abs(keys) @ np.abs(query))
            magnitude = ((1 + sizes + np.sqrt(position + 1)) * weights) @ np.abs(values)
            tolerance[index, head] = _FLOAT_SLACK * epsilon * magnitude + np.finfo(np.float32).tiny
    return Expected(positions - first, want, tolerance)
