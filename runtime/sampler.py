"""Logits -> the next token id: greedy, or drawn with temperature, top-k and top-p; repetitions made less likely."""

import math
from collections.abc import Iterable

import numpy as np


class Sampler:
    """Chooses tokens; one per generation, because it owns the random numbers.

    temperature 0.0 is greedy (ties: the lowest id). top_k 0 keeps all. top_p keeps the most probable tokens whose
    probabilities first add up to top_p. repetition_penalty divides the positive logits of tokens that were seen, and
    multiplies the negative ones, as transformers does; 1.0 changes nothing. The same seed gives the same tokens. Raises
    ValueError for impossible settings.
    """

    def __init__(
        self,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        repetition_penalty: float = 1.0,
    ) -> None:
        if not (math.isfinite(temperature) and temperature >= 0):
            raise ValueError(f"temperature must be 0 (greedy) or a positive number, got {temperature}")
        if top_k < 0:
            raise ValueError(f"top_k must be 0 (all tokens) or positive, got {top_k}")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {top_p}")
        if not (math.isfinite(repetition_penalty) and repetition_penalty > 0):
            raise ValueError(f"repetition_penalty must be positive (1.0: none), got {repetition_penalty}")
        if seed is not None and seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self._temperature = temperature
        self._top_k = top_k
        self._top_p = top_p
        self._penalty = repetition_penalty
        self._random = np.random.default_rng(seed)

    def __call__(self, logits: np.ndarray, seen: Iterable[int] = ()) -> int:
        """logits [vocab] float32 -> token id. seen: the tokens so far. Raises ValueError if the largest logit is NaN or
        infinite."""
        if self._penalty != 1.0:
            logits = self._less_of(logits, np.unique(np.fromiter(seen, np.int64)))
        best = int(np.argmax(logits))
        if not np.isfinite(logits[best]):
            raise ValueError(f"logits[{best}] is {logits[best]}; the model file may be damaged, convert it again")
        if self._temperature == 0.0:
            return best
        order = self._candidates(logits)
        scaled = (logits[order].astype(np.float64) - float(logits[best])) / self._temperature
        weights = np.exp(scaled)
        weights /= weights.sum()
        kept = int(np.searchsorted(np.cumsum(weights), self._top_p * (1 - 1e-12))) + 1
        weights = weights[:kept] / weights[:kept].sum()
        return int(order[self._random.choice(len(weights), p=weights)])

    def _less_of(self, logits: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """A copy in which the tokens that were seen are less likely."""
        changed, chosen = logits.copy(), logits[seen]
        changed[seen] = np.where(chosen > 0, chosen / self._penalty, chosen * self._penalty)
        return changed

    def _candidates(self, logits: np.ndarray) -> np.ndarray:
        """Ids from the most probable down, top_k of them."""
        if 0 < self._top_k < len(logits):
            top = np.argpartition(-logits, self._top_k - 1)[: self._top_k]
            return np.asarray(top[np.lexsort((top, -logits[top]))])
        return np.argsort(-logits, kind="stable")
