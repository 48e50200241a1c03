"""What the delegate's observers would see of a layer's attention (models/observations.py), from float q, k and v."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

from shadowattn.models.observations import BINS, LADDER, OCTAVES, SHORTEST, Observations
from shadowattn.models.oracle.shadow import SELECTED_SHARE
from shadowattn.models.oracle.steps import PAGE, SelectRule

_ROWS_PER_OCTAVE = 16  # of each head; all of them would take minutes
_LEAST = 1e-30
_NOTHING = 1e-20  # weights below it: subnormal numbers would make products a hundred times slower


def observe_layer(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, rule: SelectRule) -> Observations:
    """q [T,H,d], k and v [T,N_kv,d] of one layer -> observations with L = 1, of some rows that stand for all."""
    positions, weights = _sample(len(q), rule.min_k)
    heads, group = q.shape[1], q.shape[1] // k.shape[1]
    with _one_thread():
        parts = [_observe_head(q[:, h], k[:, h // group], v[:, h // group], scale, rule) for h in range(heads)]
    octaves = np.eye(OCTAVES)[_octave(positions + 1)]  # [R,O]
    weighted = octaves * weights[:, None]
    rows = np.broadcast_to(weighted.sum(axis=0), (1, heads, OCTAVES))
    per_head = [np.stack([np.einsum("ro,r...->o...", weighted, part[i]) for part in parts])[None] for i in range(3)]
    ranges = [float(tensor.abs().max()) for tensor in (q, k, v)]
    ranges += [max(part[3] for part in parts), max(part[4] for part in parts)]
    return Observations(per_head[0], rows, per_head[1], per_head[2], rows, np.array([ranges]))


def join_layers(layers: list[Observations]) -> Observations:
    """Observations of one layer each, in order."""
    names = ("histogram", "rows", "errors", "norms", "error_rows", "ranges")
    return Observations(**{name: np.concatenate([getattr(layer, name) for layer in layers]) for name in names})


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The products are small: threads would wait for each other, on a busy machine forty times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _sample(length: int, min_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of rows that leave something out, spread evenly over each octave; how many rows each stands for."""
    positions, weights = [], []
    for octave in range(OCTAVES):
        low, high = max(SHORTEST << octave, min_k + 1) - 1, min(SHORTEST << (octave + 1), length + 1) - 1
        count = min(_ROWS_PER_OCTAVE, max(0, high - low))
        positions += [low + (2 * i + 1) * (high - low) // (2 * count) for i in range(count)]
        weights += [(high - low) / max(count, 1)] * count
    return np.array(positions, np.int64), np.array(weights)


def _octave(lengths: np.ndarray) -> np.ndarray:
    return np.clip(np.log2(np.maximum(lengths, SHORTEST) / SHORTEST).astype(int), 0, OCTAVES - 1)


def _observe_head(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, rule: SelectRule
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """[T,d] each -> histogram [R,B], errors [R,K], norms [R] of the sampled rows; largest |q . k| of all rows, and
    output of those."""
    positions = torch.from_numpy(_sample(len(q), rule.min_k)[0])
    products = (q @ k.T).tril_()
    at = torch.arange(len(q))
    seen = at <= positions[:, None]
    logits = (products[positions] * scale).masked_fill_(~seen, -torch.inf)
    weights = torch.exp(logits - logits.amax(dim=-1, keepdim=True))
    weights.masked_fill_(weights < _NOTHING, 0)
    probability = weights / weights[:, rule.sinks :].sum(dim=-1, keepdim=True).clamp_min(_LEAST)
    forced = (at < rule.sinks) | (at > positions[:, None] - max(rule.latest, 1))
    histogram = _histogram(probability, seen & ~forced)
    outputs = weights @ v / weights.sum(dim=-1, keepdim=True)
    probability.masked_fill_(forced, torch.inf).masked_fill_(~seen, torch.nan)
    probability[:, : rule.sinks] = torch.nan  # neither left out nor compensating, as what is hidden
    errors = _errors(weights, probability, _page_means(v, positions), v)
    norms = outputs.square().sum(dim=-1).double().numpy()
    return histogram, errors, norms, float(products.abs().max()), float(outputs.abs().max() if len(outputs) else 0)


def _errors(weights: torch.Tensor, probability: torch.Tensor, means: torch.Tensor, v: torch.Tensor) -> np.ndarray:
    """[R,K]: squared distance of the output at each threshold from the output over everything. A value that is not
    selected counts with the mean of its page, and of the selected ones there (docs/algorithm.md, compensate)."""
    total = weights.sum(dim=-1, keepdim=True)
    errors = []
    for threshold in LADDER:
        left = torch.where(probability < threshold, weights, 0)
        takes = (probability >= threshold).float()
        rest, taking = _page_sums(left), _page_sums(takes)
        given = torch.where(taking > 0, SELECTED_SHARE * rest, 0)
        shares = (given / taking.clamp_min(1)).repeat_interleave(PAGE, dim=1)[:, : left.shape[1]]
        change = torch.einsum("rp,rpd->rd", rest - given, means) + (takes * shares - left) @ v
        errors.append((change / total).square().sum(dim=-1))
    return torch.stack(errors, dim=-1).double().numpy()


def _page_sums(x: torch.Tensor) -> torch.Tensor:
    """[R,n] -> [R,pages]."""
    return torch.nn.functional.pad(x, (0, -x.shape[1] % PAGE)).unflatten(1, (-1, PAGE)).sum(-1)


def _page_means(v: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """[R,pages,d]: mean of the values visible to a row, by page; zeros of those behind it."""
    pages = -(-len(v) // PAGE)
    sums = torch.cat([torch.zeros_like(v[:1]), v.cumsum(dim=0)])
    begins = torch.arange(pages) * PAGE
    ends = torch.minimum(begins + PAGE, positions[:, None] + 1)
    counts = (ends - begins).clamp_min(0)
    ends = torch.maximum(ends, begins)
    return (sums[ends] - sums[begins]) / counts.clamp_min(1)[..., None]


def _histogram(probability: torch.Tensor, counted: torch.Tensor) -> np.ndarray:
    """[R,BINS]: bin b holds probabilities in [2^(-(b + 1) / 2), 2^(-b / 2))."""
    bins = torch.ceil(-2 * torch.log2(probability.clamp_min(_LEAST))).long().sub(1).clamp(0, BINS - 1)
    counts = torch.zeros(len(probability), BINS, dtype=torch.float64)
    return counts.scatter_add_(1, bins, counted.double()).numpy()
