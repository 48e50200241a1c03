"""Thresholds of the heads: the least damage at a given number of selected positions (decision 0005)."""

import numpy as np

from shadowattn.models.observations import LADDER, SHORTEST, Observations

REFERENCE_LENGTH = 2048  # of a text
REFERENCE_KEPT = 25.0  # positions of a row of it, beside the forced: factors fitted at 15 and at 100 hardly differ
LEAST_FACTOR, LARGEST_FACTOR = 1 / 64, 8.0
_FINE = 4  # steps of a threshold between two of the ladder
_BISECTIONS = 100


def fit_factors(seen: Observations) -> np.ndarray:
    """float32 [L,H]: by what the threshold of each head is multiplied, geometric mean 1."""
    share = min(1.0, (SHORTEST << seen.octaves) / REFERENCE_LENGTH)
    return normalised(allocate(seen, REFERENCE_KEPT * share))


def normalised(thresholds: np.ndarray) -> np.ndarray:
    """Thresholds [L,H] -> factors: divided by their geometric mean, and clamped."""
    factors = thresholds / np.exp(np.log(thresholds).mean())
    return np.clip(factors, LEAST_FACTOR, LARGEST_FACTOR).astype(np.float32)


def allocate(seen: Observations, kept: float) -> np.ndarray:
    """Thresholds [L,H] at which heads select `kept` positions on average, beside the forced, with the least damage.

    A price per position decides: each head takes the threshold where damage + price * positions is least.
    """
    fine = 2.0 ** np.linspace(np.log2(LADDER[0]), np.log2(LADDER[-1]), _FINE * (len(LADDER) - 1) + 1)
    layers, heads = seen.rows.shape[:2]
    weights = seen.rows / np.maximum(seen.rows.sum(axis=-1, keepdims=True), 1)
    positions = np.stack([(seen.kept(np.full((layers, heads), t)) * weights).sum(axis=-1) for t in fine], axis=-1)
    # Squared: a sum of the errors alone leaves some heads so little that the loss grows by more than the sum says.
    damage = _refine(seen.relative_errors(), fine) ** 2
    low, high = -40.0, 40.0  # of the price's logarithm
    for _ in range(_BISECTIONS):
        price = np.exp((low + high) / 2)
        choice = np.argmin(damage + price * positions, axis=-1)
        mean = np.take_along_axis(positions, choice[..., None], axis=-1).mean()
        low, high = ((low + high) / 2, high) if mean > kept else (low, (low + high) / 2)
    return fine[choice]


def _refine(errors: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """[L,H,K] at LADDER -> at `fine`."""
    logs = np.log(np.maximum(errors, 1e-12))
    at = -np.log2(fine)
    rows = [np.interp(at, -np.log2(LADDER), row) for row in logs.reshape(-1, logs.shape[-1])]
    return np.exp(np.stack(rows)).reshape(*logs.shape[:2], -1)
