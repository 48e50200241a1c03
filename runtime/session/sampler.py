"""Logits -> the next token id: greedy, or drawn with temperature, top-k and top-p; repetitions made less likely."""

import math
import numbers
from collections.abc import Iterable

import numpy as np

_BLOCK = 256
_MOST_TEMPERATURE = 1e30  # all tokens are equally likely long before
_BINS, _BINS_PER_NAT = 4096, 32  # down to e^-128, which is zero in float32


class Sampler:
    """Selects tokens; one per generation, because it owns the random numbers.

    temperature 0.0 is greedy (ties: the lowest id). top_k 0 allows all tokens. top_p allows the most probable tokens
    whose probabilities first add up to top_p. repetition_penalty divides the positive logits of tokens that were seen,
    and multiplies the negative ones, as transformers does; 1.0 changes nothing. The same seed gives the same tokens.
    Raises ValueError for settings that are impossible.
    """

    def __init__(
        self,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        repetition_penalty: float = 1.0,
    ) -> None:
        if not (_is(numbers.Real, temperature) and math.isfinite(temperature) and temperature >= 0):
            raise ValueError(f"temperature must be 0 (greedy) or a positive number, got {temperature!r}")
        if not (_is(numbers.Integral, top_k) and top_k >= 0):
            raise ValueError(f"top_k must be 0 (all tokens) or a positive integer, got {top_k!r}")
        if not (_is(numbers.Real, top_p) and 0 < top_p <= 1):
            raise ValueError(f"top_p must be in (0, 1], got {top_p!r}")
        penalty = repetition_penalty
        if not (_is(numbers.Real, penalty) and math.isfinite(penalty) and penalty > 0):
            raise ValueError(f"repetition_penalty must be positive (1.0: none), got {penalty!r}")
        if seed is not None and not (_is(numbers.Integral, seed) and seed >= 0):
            raise ValueError(f"seed must be an integer that is not negative, got {seed!r}; None draws anew each time")
        self._temperature = np.float32(min(temperature, _MOST_TEMPERATURE))  # the least ones become 0: greedy
        self._top_k = top_k
        self._top_p = top_p
        self._penalty = penalty
        self._random = np.random.default_rng(seed)

    def __call__(self, logits: np.ndarray, seen: Iterable[int] = ()) -> int:
        """logits [vocab] float32 -> token id. seen: the tokens so far. Raises ValueError if the largest logit is NaN or
        infinite."""
        if self._penalty != 1.0:
            logits = _less_of(logits, np.unique(np.fromiter(seen, np.int64)), self._penalty)
        best = int(np.argmax(logits))
        if not np.isfinite(logits[best]):
            raise ValueError(f"logits[{best}] is {logits[best]}; the model file may be damaged, convert it again")
        if self._temperature == 0.0:
            return best
        with np.errstate(over="ignore"):
            scaled = (logits - logits[best]) / self._temperature
        tokens = None
        if 0 < self._top_k < len(logits):
            tokens = _most_likely(scaled, self._top_k)
            scaled = scaled[tokens]
        weights = np.exp(scaled).astype(np.float64)
        if self._top_p < 1:
            nucleus = _nucleus(scaled, weights, self._top_p)
            tokens, weights = nucleus if tokens is None else tokens[nucleus], weights[nucleus]
        drawn = _draw(weights, self._random.random())
        return drawn if tokens is None else int(tokens[drawn])


def _is(kind: type, value: object) -> bool:
    """True and False are no numbers here."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _less_of(logits: np.ndarray, seen: np.ndarray, penalty: float) -> np.ndarray:
    """A copy in which the tokens that were seen are less likely."""
    changed, chosen = logits.copy(), logits[seen]
    changed[seen] = np.where(chosen > 0, chosen / penalty, chosen * penalty)
    return changed


def _draw(weights: np.ndarray, uniform: float) -> int:
    """Index i with probability weights[i] / their sum; uniform in [0, 1). Running sums of blocks, then within one
    block, as running sums of a whole vocabulary cost more than its exponentials."""
    sums = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK)))
    target = uniform * sums[-1]
    block = min(int(np.searchsorted(sums, target, side="right")), len(sums) - 1)
    before = sums[block - 1] if block else 0.0
    within = before + np.cumsum(weights[block * _BLOCK : (block + 1) * _BLOCK])
    return block * _BLOCK + min(int(np.searchsorted(within, target, side="right")), len(within) - 1)


def _most_likely(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest values, the lowest first among equals, ascending; 0 < count < len(values)."""
    least = np.partition(values, len(values) - count)[-count]
    above = np.flatnonzero(values > least)
    equal = np.flatnonzero(values == least)[: count - len(above)]
    return np.sort(np.concatenate([above, equal]))


def _nucleus(scaled: np.ndarray, weights: np.ndarray, top_p: float) -> np.ndarray:
    """scaled [n]: logits over temperature, the largest 0; weights [n]: their exponentials -> indices of the most
    probable tokens that first add up to top_p.

    A histogram of the logits finds the bin in which top_p is reached, and only that bin is sorted: sorting a whole
    vocabulary costs more than all the rest of a draw.
    """
    bins = np.minimum(scaled * np.float32(-_BINS_PER_NAT), np.float32(_BINS - 1)).astype(np.int32)
    sums = np.cumsum(np.bincount(bins, weights))
    wanted = top_p * (1 - 1e-12) * float(sums[-1])
    edge = int(np.searchsorted(sums, wanted))
    inside = np.flatnonzero(bins < edge)
    at_edge = np.flatnonzero(bins == edge)
    at_edge = at_edge[np.argsort(-scaled[at_edge], kind="stable")]
    reached = float(weights[inside].sum()) + np.cumsum(weights[at_edge])
    return np.concatenate([inside, at_edge[: int(np.searchsorted(reached, wanted)) + 1]])
