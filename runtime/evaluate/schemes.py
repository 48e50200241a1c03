"""Ways to estimate Q.K^T in static INT8 graphs, in NumPy, to compare which find the positions that matter.

Layout: q [R,H,d] rows of queries, k [S,N_kv,d] keys, of one layer; scores [H,R,S]. An estimate only ranks the
positions of a row, so its scores have no unit.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from shadowattn.models.plan import Plan
from shadowattn.models.reference import (
    estimate,
    estimate_coarse,
    quantize_keys,
    quantize_queries,
    quantize_queries_coarse,
)

PAPER_MULTIPLIERS = (0.5, 1.0, 2.0)  # arXiv 2508.16703: the grid around the mean scale


@dataclasses.dataclass(frozen=True)
class Projections:
    """One layer: q [R,H,d] of the rows at `positions` [R], k [S,N_kv,d] of all positions; float32, RoPE applied."""

    q: np.ndarray
    positions: np.ndarray
    k: np.ndarray


def by_head(scores: np.ndarray, heads: int) -> np.ndarray:
    """[N_kv,G*R,S] as the estimate graph writes it -> [H,R,S]."""
    return scores.reshape(heads, -1, scores.shape[-1])


def float_scores(layer: Projections) -> np.ndarray:
    """What the others are judged by: float64 [H,R,S]."""
    group = layer.q.shape[1] // layer.k.shape[1]
    keys = np.repeat(layer.k.astype(np.float64), group, axis=1)
    return np.einsum("thd,shd->hts", layer.q.astype(np.float64), keys)


def dynamic(layer: Projections, plan: Plan, index: int) -> np.ndarray:
    """The op's own estimate: every query row its own scale, K centred, int32 accumulators."""
    k_i8, _ = quantize_keys(layer.k, plan.centre[index], plan.scale[index])
    return estimate(quantize_queries(layer.q), k_i8).transpose(1, 0, 2)


def rank_invariant(layer: Projections, plan: Plan, index: int) -> np.ndarray:
    """The split form's graph: query rows scaled by their predicted spread, K centred, one static output scale."""
    k_i8, _ = quantize_keys(layer.k, plan.centre[index], plan.scale[index])
    q_i8 = quantize_queries_coarse(layer.q, plan.k_variance[index], plan.estimate_multiplier)
    scores = estimate_coarse(q_i8, k_i8.transpose(1, 0, 2), plan.estimate_multiplier)
    return by_head(scores, layer.q.shape[1])


class BucketGrid:
    """The paper's buckets: static scales of Q and K at multiples of their means over heads and layers, and for each
    pair a static output scale; a head takes those nearest by mean squared error, Q's for every chunk anew (here: for
    the rows of a Projections).

    Fitted on `layers` of a calibration text. With one multiplier there is one bucket.
    """

    def __init__(self, layers: Sequence[Projections], multipliers: Sequence[float] = PAPER_MULTIPLIERS) -> None:
        self._q_scales = _grid([layer.q for layer in layers], multipliers)
        self._k_scales = _grid([layer.k for layer in layers], multipliers)
        # A head's keys stay in their bucket, or old and new ones could not be compared.
        self._k_buckets = [_nearest(layer.k, self._k_scales) for layer in layers]
        self._largest = np.zeros((len(self._q_scales), len(self._k_scales)))
        for index, layer in enumerate(layers):
            q_bucket, k_bucket, accumulators = self._accumulate(layer, index)
            largest = np.abs(accumulators).max(axis=(1, 2))
            np.maximum.at(self._largest, (q_bucket, k_bucket), largest)

    def scores(self, layer: Projections, index: int) -> np.ndarray:
        """int8 [H,R,S]; saturates where this text's scores are larger than the calibration text's."""
        q_bucket, k_bucket, accumulators = self._accumulate(layer, index)
        largest = self._largest[q_bucket, k_bucket]
        multiplier = 127 / np.where(largest > 0, largest, 127.0)
        scaled = np.rint(accumulators * multiplier[:, None, None])
        return np.clip(scaled, -128, 127).astype(np.int8)

    def _accumulate(self, layer: Projections, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Buckets of Q and of K by query head, and int32 accumulators [H,R,S]."""
        heads = layer.q.shape[1]
        group = heads // layer.k.shape[1]
        q_bucket = _nearest(layer.q, self._q_scales)
        k_bucket = self._k_buckets[index]
        q_i8 = _quantise(layer.q, self._q_scales[q_bucket])
        k_i8 = _quantise(layer.k, self._k_scales[k_bucket])
        accumulators = estimate(q_i8, k_i8).transpose(1, 0, 2)
        return q_bucket, np.repeat(k_bucket, group), accumulators


def _grid(tensors: Sequence[np.ndarray], multipliers: Sequence[float]) -> np.ndarray:
    mean = np.mean([np.abs(tensor).max(axis=(0, 2)) / 127 for tensor in tensors])
    return np.maximum(np.array(multipliers) * mean, np.finfo(np.float32).tiny)


def _quantise(tensor: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """tensor [n,heads,d], scale [heads] -> int8."""
    return np.clip(np.rint(tensor / scale[None, :, None]), -127, 127).astype(np.int8)


def _nearest(tensor: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """[heads]: the scale whose quantisation error of a head is least."""
    heads = tensor.shape[1]
    errors = []
    for scale in scales:
        steps = np.full(heads, scale)
        errors.append(((_quantise(tensor, steps) * scale - tensor) ** 2).mean(axis=(0, 2)))
    return np.argmin(errors, axis=0)


def recall(scores: np.ndarray, truth: np.ndarray, positions: np.ndarray, keep_ratio: float) -> np.ndarray:
    """scores, truth [H,R,S] of the rows at `positions` -> [H]: mean share of the true top-k that the scores' top-k
    finds, k = keep_ratio of what a row sees; equal scores newest first."""
    heads, rows, _ = scores.shape
    found = np.zeros((heads, rows))
    for r, causal in enumerate((positions + 1).tolist()):
        k = max(1, round(keep_ratio * causal))
        newest_first = np.arange(causal)[::-1]
        for h in range(heads):
            best = newest_first[np.argsort(-scores[h, r, :causal][::-1].astype(np.float64), kind="stable")[:k]]
            true = np.argpartition(truth[h, r, :causal], causal - k)[causal - k :]
            found[h, r] = len(np.intersect1d(best, true, assume_unique=True)) / k
    return found.mean(axis=1)
