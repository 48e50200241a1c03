"""What was observed of a model's attention over a text, and what follows for any threshold (docs/calibration.md)."""

import dataclasses

import numpy as np

OCTAVES = 11  # of the causal length
SHORTEST = 64  # where the first begins
BINS = 41  # half octaves of the probability from 1 down; the last holds all below 2^-20
LADDER = 2.0 ** (-2.0 - 0.5 * np.arange(25))  # thresholds of `errors`
_LEAST = 1e-12


@dataclasses.dataclass(frozen=True)
class Observations:
    """Sums over rows, float64, by layer, head and octave of the causal length (docs/op_spec.md, observers).

    histogram [L,H,O,B], rows [L,H,O], errors [L,H,O,K], norms [L,H,O], error_rows [L,H,O], ranges [L,5].
    """

    histogram: np.ndarray
    rows: np.ndarray
    errors: np.ndarray
    norms: np.ndarray
    error_rows: np.ndarray
    ranges: np.ndarray

    def plus(self, other: "Observations") -> "Observations":
        """Both texts together."""
        names = [field.name for field in dataclasses.fields(self)]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names if name != "ranges"}
        return Observations(**sums, ranges=np.maximum(self.ranges, other.ranges))

    @property
    def octaves(self) -> int:
        """Octaves in which enough was seen; those after them are empty, or have a row or two."""
        rows = self.rows.sum(axis=(0, 1))
        return int(np.argmin(np.append(rows > rows.max() / 32, False)))

    def kept(self, thresholds: np.ndarray) -> np.ndarray:
        """Mean number of positions in [L,H,O] that a row selects beside the forced, at thresholds [L,H]."""
        reached = np.cumsum(self.histogram, axis=-1)[..., :-1]  # [b]: probability of at least 2^(-(b + 1) / 2)
        edges = 2.0 ** (-0.5 * np.arange(1, BINS))
        return interpolate(reached / np.maximum(self.rows, 1)[..., None], edges, thresholds)

    def relative_errors(self) -> np.ndarray:
        """[L,H,K]: mean squared change of a head's output at each threshold of LADDER, as a share of the mean squared
        output of the heads of its layer."""
        rows = np.maximum(self.error_rows.sum(axis=2), 1)
        outputs = (self.norms.sum(axis=2) / rows).mean(axis=1)
        return self.errors.sum(axis=2) / rows[..., None] / np.maximum(outputs, _LEAST)[:, None, None]

    def damage(self, thresholds: np.ndarray) -> float:
        """Sum over the layers of the relative error of their outputs, at thresholds [L,H]: the loss grows about in
        proportion to it."""
        return float(interpolate(self.relative_errors()[:, :, None], LADDER, thresholds).mean(axis=1).sum())


def interpolate(values: np.ndarray, edges: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """values [L,H,O,K] at descending `edges` -> [L,H,O] at thresholds [L,H]; both logarithmic, clamped at the ends."""
    place = np.interp(-np.log(thresholds), -np.log(edges), np.arange(len(edges)))
    low = np.minimum(place.astype(int), len(edges) - 2)
    share = (place - low)[..., None]
    logs = np.log(np.maximum(values, _LEAST))
    index = low[..., None, None]
    below, above = (np.take_along_axis(logs, index + step, axis=-1)[..., 0] for step in (0, 1))
    return np.exp(below * (1 - share) + above * share)
