"""The slow oracle: what the custom ops compute, in NumPy, step by step (docs/algorithm.md): quantise, estimate, the k
best, exact attention. The steps of mode shadow alone are in models/shadow.py.

Shapes: q [T,H,d], keys and values [S,N_kv,d] as stored in the cache. Integers are exact; floats are float64 inside.
"""

import dataclasses

import numpy as np

PAGE = 64
LARGEST_SUM = 2.0**100  # of weights relative to the best of the row's own page
_QUADRATIC = np.array([0.33335, 0.66591, 0.99926], np.float32)

COARSE_SPREAD = 24.0


@dataclasses.dataclass(frozen=True)
class SelectRule:
    """How many positions a row selects, and which always (docs/algorithm.md, top-k)."""

    keep_ratio: float = 0.2
    min_k: int = 64
    sinks: int = 1
    latest: int = 1

    def k(self, causal_length: int, budget: float = 1.0) -> int:
        """k of a row of `causal_length` positions, of a head with that budget."""
        share = min(self.keep_ratio * budget, 1.0)
        return min(max(int(np.floor(share * causal_length + 0.5)), self.min_k), causal_length)


def quantize_keys(keys: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, int]:
    """keys [S,N_kv,d] float32, centre [N_kv,d], scale [N_kv] -> (int8 [S,N_kv,d], elements that had to be clamped)."""
    inverse = (np.float32(1) / scale.astype(np.float32))[None, :, None]
    rounded = np.rint((keys.astype(np.float32) - centre.astype(np.float32)) * inverse)
    return np.clip(rounded, -127, 127).astype(np.int8), int((np.abs(rounded) > 127).sum())


def quantize_queries(q: np.ndarray) -> np.ndarray:
    """q [...,d] float32 -> int8, each row scaled so that its largest element is 127; zeros where that overflows."""
    q = q.astype(np.float32)
    largest = np.abs(q).max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):
        inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
    return np.rint(q * np.where(np.isfinite(inverse), inverse, np.float32(0))).astype(np.int8)


def quantize_queries_coarse(q: np.ndarray, k_variance: np.ndarray, multiplier: float) -> np.ndarray:
    """q [T,H,d], k_variance [N_kv,d] -> int8 [N_kv,G*T,d]: each row scaled by its predicted score spread."""
    time, heads, head_dim = q.shape
    kv_heads = k_variance.shape[0]
    group = heads // kv_heads
    out = np.zeros((kv_heads, group * time, head_dim), np.int8)
    for t in range(time):
        for h in range(heads):
            row = q[t, h].astype(np.float32)
            step = coarse_step(row, k_variance[h // group], multiplier)
            scaled = np.clip(np.rint(row * np.float32(step)), -127, 127)
            out[h // group, (h % group) * time + t] = scaled.astype(np.int8)
    return out


def coarse_step(row: np.ndarray, k_variance: np.ndarray, multiplier: float) -> float:
    """INT8 steps per unit of one query row [d]; 0 for a zero row, and for one so small that the step overflows."""
    largest = float(np.abs(row).max())
    if largest == 0.0:
        return 0.0
    widest, spread = 127.0 / largest, _spread(row, k_variance)
    step = widest if spread == 0.0 else min(widest, COARSE_SPREAD / (float(np.float32(multiplier)) * spread))
    return step if step <= np.finfo(np.float32).max else 0.0


def _spread(row: np.ndarray, k_variance: np.ndarray) -> float:
    total = 0.0
    for value, variance in zip(row.tolist(), k_variance.astype(np.float32).tolist(), strict=True):
        total += value * value * variance
    return float(np.sqrt(total))


def estimate(q_i8: np.ndarray, k_i8: np.ndarray) -> np.ndarray:
    """q_i8 [T,H,d], k_i8 [S,N_kv,d] -> int32 scores [T,H,S]."""
    group = q_i8.shape[1] // k_i8.shape[1]
    repeated = np.repeat(k_i8.astype(np.int32), group, axis=1)
    return np.einsum("thd,shd->ths", q_i8.astype(np.int32), repeated)


def estimate_coarse(q_i8: np.ndarray, k_i8: np.ndarray, multiplier: float) -> np.ndarray:
    """The static INT8 graph: q_i8 [N_kv,G*T,d], k_i8 [N_kv,S,d] -> int8 [N_kv,G*T,S], round(acc * multiplier)."""
    accumulators = np.einsum("nrd,nsd->nrs", q_i8.astype(np.int32), k_i8.astype(np.int32))
    return np.clip(np.rint(accumulators * np.float32(multiplier)), -128, 127).astype(np.int8)


def score_exactly(q: np.ndarray, keys: np.ndarray, softmax_scale: float) -> np.ndarray:
    """The float estimate: q [T,H,d], keys [S,N_kv,d] -> float64 logits [T,H,S]."""
    repeated = np.repeat(keys.astype(np.float64), q.shape[1] // keys.shape[1], axis=1)
    return softmax_scale * np.einsum("thd,shd->ths", q.astype(np.float64), repeated)


def select(scores: np.ndarray, rule: SelectRule, budget: float = 1.0) -> np.ndarray:
    """scores [n] of one row's causal positions -> its k selected positions, ascending."""
    length = len(scores)
    k = rule.k(length, budget)
    sinks = range(min(rule.sinks, length))
    latest = range(length - 1, max(length - 1 - rule.latest, -1), -1)
    forced = list(dict.fromkeys([length - 1, *sinks, *latest]))[:k]
    others = np.setdiff1d(np.arange(length), forced)
    best_first = others[np.lexsort((-others, -scores[others].astype(np.float64)))]
    return np.sort(np.concatenate([np.array(forced, int), best_first[: k - len(forced)]]))


def attend(q: np.ndarray, keys: np.ndarray, values: np.ndarray, softmax_scale: float) -> np.ndarray:
    """One row: q [d], keys and values [k,d] -> [d], softmax in float64."""
    logits = softmax_scale * (keys.astype(np.float64) @ q.astype(np.float64))
    weights = np.exp(logits - logits.max())
    return (weights @ values.astype(np.float64)) / weights.sum()


def sparse_attention(
    q: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    scores: np.ndarray | None,
    rule: SelectRule,
    softmax_scale: float,
    budgets: np.ndarray | None = None,
) -> np.ndarray:
    """The op on a chunk of T rows at the end of S positions: float64 [T,H*d]. scores None means dense; else [T,H,S].
    budgets [H]: of the heads (mode shadow_paper).

    keys, values [S,N_kv,d] hold the chunk itself too: row t sees positions 0 .. S-T+t.
    """
    time, heads, head_dim = q.shape
    group = heads // keys.shape[1]
    out = np.zeros((time, heads, head_dim))
    for t in range(time):
        length = len(keys) - time + t + 1
        for h in range(heads):
            budget = 1.0 if budgets is None else float(budgets[h])
            selected = np.arange(length) if scores is None else select(scores[t, h, :length], rule, budget)
            out[t, h] = attend(q[t, h], keys[selected, h // group], values[selected, h // group], softmax_scale)
    return out.reshape(time, heads * head_dim)


def softmax_weights32(scores: np.ndarray, step: np.float32, exact_reference: bool = False) -> np.ndarray:
    """float32 [n] exp(step * (scores - reference)) as the kernels compute it (docs/algorithm.md, step 3). The reference
    is the largest score of the last page; of all, where weights would be too large or it is wanted (graph scores)."""
    own = (len(scores) - 1) % PAGE + 1
    reference = scores.max() if exact_reference else scores[-own:].max()
    below = (scores - reference).astype(np.float32)
    factor = min(np.float32(step) * np.float32(1.44269504), np.float32(1e28))
    x = _fused(below, factor, np.float32(64))
    floor = np.floor(x)
    fraction = x - floor
    p = np.full_like(x, _QUADRATIC[0])
    for coefficient in _QUADRATIC[1:]:
        p = _fused(p, fraction, coefficient)
    with np.errstate(over="ignore"):
        weights = np.ldexp(p, np.clip(floor - 64, -127, 128).astype(np.int32))
    weights[floor - 64 < -126] = 0
    return weights if weights.sum(dtype=np.float64) <= LARGEST_SUM else softmax_weights32(scores, step, True)


def _fused(a: np.ndarray, b: np.ndarray | np.float32, c: np.float32) -> np.ndarray:
    """float32 a * b + c, rounded once (but for 1 in 2^29, where float64 lies just between two float32)."""
    return (a.astype(np.float64) * b + c).astype(np.float32)
