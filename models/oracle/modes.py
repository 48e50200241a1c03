"""The slow oracle of the modes int8, block_sparse and npu_full, in NumPy (docs/algorithm.md, modes).

Shapes: q [T,H,d], the last T rows of a text; keys and values [S,N_kv,d] hold the whole of it, as stored in the cache.
So row t sees positions 0 .. S-T+t. Results are [T,H*d].
"""

import math
from collections.abc import Callable

import numpy as np

from shadowattn.models.oracle import steps
from shadowattn.models.oracle.steps import PAGE
from shadowattn.models.plan import STATIC_RANGES, Plan

Row = Callable[[int, int, int], np.ndarray]


def int8_attention(q: np.ndarray, keys: np.ndarray, values: np.ndarray, plan: Plan, softmax_scale: float) -> np.ndarray:
    """Mode int8 with layer 0 of the plan. Integers as the op has them; what is made of them in float64."""
    k_i8, _ = steps.quantize_keys(keys, plan.centre[0], plan.scale[0])
    scores = steps.estimate(steps.quantize_queries(q), k_i8)
    largest = np.abs(q.astype(np.float32)).max(axis=-1) / np.float32(127)
    group = q.shape[1] // keys.shape[1]

    def row(t: int, h: int, length: int) -> np.ndarray:
        step = largest[t, h] * (plan.scale[0, h // group] * np.float32(softmax_scale))
        weights = steps.softmax_weights32(scores[t, h, :length], step).astype(np.float64)
        return _pv_int8_pages(weights, values[:length, h // group])

    return _each_row(q, len(keys), row)


def _pv_int8_pages(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """weights [n] and values [n,d] of the visible positions: INT8 but for those behind its full pages."""
    full = len(weights) // PAGE * PAGE
    total = weights[full:] @ values[full:].astype(np.float64)
    for begin in range(0, full, PAGE):
        w, v = weights[begin : begin + PAGE].astype(np.float32), values[begin : begin + PAGE].astype(np.float32)
        w_i8, w_step = _symmetric(w, w.max())
        v_i8, v_step = _symmetric(v, np.abs(v).max(axis=0))
        total = total + w_step * v_step * (w_i8.astype(np.int64) @ v_i8.astype(np.int64))
    return total / weights.sum()


def _symmetric(x: np.ndarray, largest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """INT8 of x, and what one unit of it is worth: largest / 127."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(127) / largest
    inverse = np.where(np.isfinite(inverse), inverse, np.float32(0))
    return np.clip(np.rint(x * inverse), -127, 127).astype(np.int8), (largest / np.float32(127)).astype(np.float64)


def selected_pages(keep_ratio: float, visible: int) -> int:
    """Pages that a block of queries selects of its visible ones."""
    return min(max(math.ceil(keep_ratio * visible), 2), visible)


def block_sparse_attention(
    q: np.ndarray, keys: np.ndarray, values: np.ndarray, softmax_scale: float, keep_ratio: float, min_k: int
) -> np.ndarray:
    """Mode block_sparse, for rows that begin with a chunk and end with one."""
    time, heads, _ = q.shape
    first, group = len(keys) - time, q.shape[1] // keys.shape[1]
    selected = {}
    for block in range(first // PAGE, (len(keys) - 1) // PAGE + 1):
        rows = slice(max(block * PAGE - first, 0), (block + 1) * PAGE - first)
        for h in range(heads):
            selected[block, h] = _best_pages(q[rows, h], keys[:, h // group], block, keep_ratio)

    def row(t: int, h: int, length: int) -> np.ndarray:
        positions = np.arange(length)
        if length > min_k:
            positions = positions[np.isin(positions // PAGE, selected[(length - 1) // PAGE, h])]
        return steps.attend(q[t, h], keys[positions, h // group], values[positions, h // group], softmax_scale)

    return _each_row(q, len(keys), row)


def _best_pages(q: np.ndarray, keys: np.ndarray, block: int, keep_ratio: float) -> list[int]:
    mean = q.astype(np.float64).mean(axis=0)
    means = [keys[page * PAGE : (page + 1) * PAGE].astype(np.float64).mean(axis=0) for page in range(block)]
    others = sorted(range(1, block), key=lambda page: (-float(mean @ means[page]), -page))
    forced = sorted({0, block})
    return forced + others[: selected_pages(keep_ratio, block + 1) - len(forced)]


def npu_full_attention(
    q: np.ndarray, keys: np.ndarray, values: np.ndarray, plan: Plan, softmax_scale: float
) -> np.ndarray:
    """Mode npu_full with layer 0 of the plan: a multiple of the output's step for every element."""
    ranges = dict(zip(STATIC_RANGES, plan.static_ranges[0].astype(np.float64), strict=True))
    q_i8, k_i8, v_i8 = (_static(x, ranges[name]) for name, x in (("q", q), ("k", keys), ("v", values)))
    scores = steps.estimate(q_i8, k_i8)
    group = q.shape[1] // keys.shape[1]
    to_logits = np.float32(ranges["q"] * ranges["k"] / (127 * ranges["score"]))
    score_step = np.float32(softmax_scale) * np.float32(ranges["score"] / 127)
    to_out = np.float32(ranges["v"] / (256 * ranges["out"]))

    def row(t: int, h: int, length: int) -> np.ndarray:
        levels = _requantize(scores[t, h, :length], to_logits)
        weights = steps.softmax_weights32(levels, score_step, exact_reference=True).astype(np.float64)
        probabilities = np.minimum(np.rint(256 * weights / weights.sum()), 255).astype(np.int64)
        return _requantize(probabilities @ v_i8[:length, h // group].astype(np.int64), to_out) * (ranges["out"] / 127)

    return _each_row(q, len(keys), row)


def _static(x: np.ndarray, largest: float) -> np.ndarray:
    rounded = np.rint(x.astype(np.float32) * (np.float32(127) / np.float32(largest)))
    return np.clip(rounded, -127, 127).astype(np.int8)


def _requantize(accumulators: np.ndarray, multiplier: np.float32) -> np.ndarray:
    return np.clip(np.rint(accumulators.astype(np.float32) * multiplier), -128, 127)


def _each_row(q: np.ndarray, length: int, row: Row) -> np.ndarray:
    """row(t, h, positions that it sees) for all rows: float64 [T,H*d]."""
    time, heads, head_dim = q.shape
    out = np.zeros((time, heads, head_dim))
    for t in range(time):
        for h in range(heads):
            out[t, h] = row(t, h, length - time + t + 1)
    return out.reshape(time, heads * head_dim)
