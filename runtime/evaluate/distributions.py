"""KL divergence of next-token distributions, cheap enough to take at every position of a text.

Vocabularies are wide (49,152 for SmolLM2), so rows are taken one at a time, in float32 and in buffers that stay in the
CPU's cache. With logits a and b and their log-sums A and B: KL(a || b) = sum softmax(a) * (a - b) - A + B.
"""

import math

import numpy as np


class Reference:
    """Rows [n, vocab] of logits that others are compared with. Their softmax is computed once for all."""

    def __init__(self, logits: np.ndarray) -> None:
        self._logits = logits
        self._softmax = np.empty_like(logits)
        self._log_sums = [_softmax_row(row, out) for row, out in zip(logits, self._softmax, strict=True)]
        self._likeliest = logits.argmax(axis=-1)

    def kl(self, logits: np.ndarray) -> np.ndarray:
        """float64 [n]: KL(reference || logits) in nats."""
        found = np.empty(len(logits))
        buffer = np.empty(logits.shape[1:], logits.dtype)
        for i, row in enumerate(logits):
            log_sum = _softmax_row(row, buffer)
            np.subtract(self._logits[i], row, out=buffer)
            mean = float(np.einsum("i,i->", self._softmax[i], buffer))  # no BLAS: it would start threads
            found[i] = max(mean - self._log_sums[i] + log_sum, 0.0)
        return found

    def same_top(self, logits: np.ndarray) -> np.ndarray:
        """bool [n]: whether the most likely token is the same."""
        return self._likeliest == logits.argmax(axis=-1)


def _softmax_row(row: np.ndarray, out: np.ndarray) -> float:
    """Writes softmax(row) and returns log(sum(exp(row)))."""
    largest = row.max()
    np.subtract(row, largest, out=out)
    np.exp(out, out=out)
    total = out.sum()
    out /= total
    return float(largest) + math.log(float(total))
