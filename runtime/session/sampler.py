"""Logits -> the next token id: greedy, or drawn with temperature, top-k and top-p."""

import math

import numpy as np

_FIRST_SORTED = 128


class Sampler:
    """Chooses tokens; one per generation, because it owns the random numbers.

    temperature 0.0 is greedy (ties: the lowest id). top_k 0 allows all tokens. top_p allows the most probable tokens
    whose probabilities first add up to top_p. The same seed gives the same tokens. Raises ValueError for
    settings that are impossible.
    """

    def __init__(self, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0, seed: int | None = None) -> None:
        if not (math.isfinite(temperature) and temperature >= 0):
            raise ValueError(f"temperature must be 0 (greedy) or a positive number, got {temperature}")
        if top_k < 0:
            raise ValueError(f"top_k must be 0 (all tokens) or positive, got {top_k}")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {top_p}")
        if seed is not None and seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self._temperature = temperature
        self._top_k = top_k
        self._top_p = top_p
        self._random = np.random.default_rng(seed)

    def __call__(self, logits: np.ndarray) -> int:
        """logits [vocab] float32 -> token id. Raises ValueError if the largest logit is NaN or infinite."""
        best = int(np.argmax(logits))
        if not np.isfinite(logits[best]):
            raise ValueError(f"logits[{best}] is {logits[best]}; the model file may be damaged, convert it again")
        if self._temperature == 0.0:
            return best
        tokens = self._most_likely(logits, self._top_k) if 0 < self._top_k < len(logits) else np.arange(len(logits))
        weights = np.exp((logits[tokens].astype(np.float64) - float(logits[best])) / self._temperature)
        if self._top_p < 1:
            chosen = self._nucleus(weights)
            tokens, weights = tokens[chosen], weights[chosen]
        sums = np.cumsum(weights)
        drawn = int(np.searchsorted(sums, self._random.random() * sums[-1], side="right"))
        return int(tokens[min(drawn, len(tokens) - 1)])  # a product that rounds up to the sum itself is the last token

    def _most_likely(self, values: np.ndarray, count: int) -> np.ndarray:
        """Indices of the `count` largest values, the lowest first among equals, ascending; 0 < count < len(values)."""
        least = np.partition(values, len(values) - count)[-count]
        above = np.flatnonzero(values > least)
        equal = np.flatnonzero(values == least)[: count - len(above)]
        return np.sort(np.concatenate([above, equal]))

    def _nucleus(self, weights: np.ndarray) -> np.ndarray:
        """Indices of the largest weights that first add up to top_p of all, from the largest down.

        Only as many are sorted as may be needed: sorting a whole vocabulary costs more than the rest of a draw.
        """
        wanted = self._top_p * (1 - 1e-12) * float(weights.sum())
        count = _FIRST_SORTED
        while True:
            largest = self._most_likely(weights, count) if count < len(weights) else np.arange(len(weights))
            order = largest[np.argsort(-weights[largest], kind="stable")]
            sums = np.cumsum(weights[order])
            if sums[-1] >= wanted or count >= len(weights):
                return order[: int(np.searchsorted(sums, wanted)) + 1]
            count *= 16
