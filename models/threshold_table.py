"""The plan's table of thresholds by keep_ratio and causal length (docs/calibration.md)."""

import dataclasses
from collections.abc import Callable

import numpy as np

from shadowattn.models.allocation import REFERENCE_LENGTH
from shadowattn.models.observations import SHORTEST, Observations
from shadowattn.models.plan import ThresholdTable

KEEP_RATIOS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
_LARGEST, _LEAST = 0.5, 2.0**-20
_RAMP = 1.25  # behind the reference length, until rows select the share of their own length
_BISECTIONS = 60


@dataclasses.dataclass(frozen=True)
class Forced:
    """What is read whatever the threshold: min_k, sinks and latest of docs/op_spec.md."""

    min_k: int
    sinks: int
    latest: int

    def positions(self, lengths: np.ndarray) -> np.ndarray:
        return np.minimum(lengths, self.sinks + max(self.latest, 1))


def fit_table(seen: Observations, factors: np.ndarray, forced: Forced, max_length: int) -> ThresholdTable:
    """Up to the reference length one threshold, at which a text of that length keeps the share on average; behind it,
    the one at which a row of each length keeps it.

    Why not the share of its own length for every row: what a row needs is a number of positions, which hardly depends
    on its length. At the same average, short rows would lose far more than long ones gain.
    """
    reference = min(REFERENCE_LENGTH, SHORTEST << seen.octaves)
    lengths = [float(SHORTEST), float(reference)]
    longer = reference * _RAMP
    while longer <= max(max_length, reference * _RAMP):
        lengths.append(longer)
        longer *= 2
    values = []
    for ratio in KEEP_RATIOS:
        of_text = _solve(lambda threshold: keep_of_text(seen, factors, forced, threshold, reference), ratio)
        of_rows = [_of_row(seen, factors, forced, ratio, length) for length in lengths[2:]]
        values.append([of_text, of_text, *of_rows])
    table = np.minimum.accumulate(np.asarray(values, np.float32), axis=0)
    return ThresholdTable(np.array(KEEP_RATIOS, np.float32), np.array(lengths, np.float32), table)


def keep_of_text(seen: Observations, factors: np.ndarray, forced: Forced, threshold: float, length: int) -> float:
    """Mean share that a text of `length` positions keeps at one threshold."""
    lengths = np.arange(1, length + 1)
    kept = _kept(seen, factors, forced, threshold, lengths)
    return float(np.where(lengths <= forced.min_k, lengths, kept).sum() / lengths.sum())


def _of_row(seen: Observations, factors: np.ndarray, forced: Forced, ratio: float, length: float) -> float:
    lengths = np.array([length])
    return _solve(lambda threshold: float(_kept(seen, factors, forced, threshold, lengths)[0]) / length, ratio)


def _kept(seen: Observations, factors: np.ndarray, forced: Forced, threshold: float, lengths: np.ndarray) -> np.ndarray:
    """Mean number of positions that rows of these lengths keep; beyond the last octave that was seen it grows from one
    octave to the next as it did there."""
    by_octave = seen.kept(np.clip(threshold * factors, 1e-30, 1.0)).mean(axis=(0, 1))
    octave = np.log2(np.maximum(lengths, SHORTEST) / SHORTEST).astype(int)
    last = seen.octaves - 1
    growth = np.clip(by_octave[last] / max(by_octave[max(last - 1, 0)], _LEAST), 1.0, 2.0)
    free = by_octave[np.minimum(octave, last)] * growth ** np.maximum(octave - last, 0)
    return np.minimum(free + forced.positions(lengths), lengths)


def _solve(share: Callable[[float], float], ratio: float) -> float:
    """The largest threshold at which at least `ratio` is kept, or the least there is."""
    low, high = np.log(_LEAST), np.log(_LARGEST)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if share(float(np.exp(middle))) > ratio else (low, middle)
    return float(np.exp(low))
