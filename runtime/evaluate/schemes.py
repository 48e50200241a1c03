"""Ways to estimate Q.K^T in static INT8 graphs, in NumPy, to compare which find the positions that matter.

Layout: q [R,H,d] rows of queries, k [S,N_kv,d] keys, of one layer; scores [H,R,S]. An estimate only ranks the
positions of a row, so its scores have no unit.
"""

import numpy as np

from shadowattn.models.oracle.grid import (
    Projections,
    bucket_multipliers,
    grid_scores,
    quantize_heads,
    quantize_static,
)
from shadowattn.models.oracle.steps import (
    estimate,
    estimate_coarse,
    quantize_keys,
    quantize_queries,
    quantize_queries_coarse,
)
from shadowattn.models.plan import Plan
from shadowattn.models.scale_grid import ScaleGrid


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
    """The estimate graph: query rows scaled by their predicted spread, K centred, one static output scale."""
    k_i8, _ = quantize_keys(layer.k, plan.centre[index], plan.scale[index])
    q_i8 = quantize_queries_coarse(layer.q, plan.k_variance[index], plan.estimate_multiplier)
    scores = estimate_coarse(q_i8, k_i8.transpose(1, 0, 2), plan.estimate_multiplier)
    return by_head(scores, layer.q.shape[1])


def bucketed(layer: Projections, grid: ScaleGrid) -> np.ndarray:
    """The paper's buckets: each head by the static scales nearest to those of the chunk; int8 [H,R,S], saturated where
    this text's scores are larger than the calibration text's."""
    buckets = layer.buckets(grid)
    return grid_scores(*quantize_heads(layer, grid, buckets), bucket_multipliers(grid, buckets))


def uncalibrated(layer: Projections) -> np.ndarray:
    """No calibration: each head by the scales of its own chunk, into a graph whose output scale must do for any scores:
    127 levels for the largest sum that INT8 can give, so nothing saturates. int8 [H,R,S]."""
    group = layer.q.shape[1] // layer.k.shape[1]
    q_i8 = quantize_static(layer.q, layer.q_scale).transpose(1, 0, 2)
    k_i8 = np.repeat(quantize_static(layer.k, layer.k_scale).transpose(1, 0, 2), group, axis=0)
    return grid_scores(q_i8, k_i8, 1 / (127 * layer.q.shape[-1]))


def recall(scores: np.ndarray, truth: np.ndarray, positions: np.ndarray, keep_ratio: float) -> np.ndarray:
    """scores, truth [H,R,S] of the rows at `positions` -> [H]: mean share of the true top-k that the scores' top-k
    finds, k = keep_ratio of what is visible; equal scores newest first."""
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
