"""The bucket grid of the static INT8 estimate graphs (arXiv 2508.16703): scales of Q and of K, and for each pair an
output scale. A chunk's heads take the nearest.

Bucket 0 is no pair: it is the rank-invariant graph (models/estimate_graphs.py). Pair (i, j) is 1 + i * nk + j.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

MOST_SCALES = 16  # of Q, and of K
NEAREST = ("mse", "log")


@dataclasses.dataclass(frozen=True)
class ScaleGrid:
    """q_scales [nq], k_scales [nk] float32, ascending: one INT8 step of Q and of K; score_scales [nq,nk] float32: one
    level of the output in units of the float q . k, before the softmax scale."""

    q_scales: np.ndarray
    k_scales: np.ndarray
    score_scales: np.ndarray

    def __post_init__(self) -> None:
        for name in ("q_scales", "k_scales", "score_scales"):
            array = np.asarray(getattr(self, name), np.float32)
            object.__setattr__(self, name, array)
            if not (np.isfinite(array) & (array >= np.finfo(np.float32).tiny)).all():
                raise ValueError(f"scale grid: {name} must be positive numbers, got {array.tolist()}; calibrate again")
        for name in ("q_scales", "k_scales"):
            array = getattr(self, name)
            if array.ndim != 1 or not 1 <= array.size <= MOST_SCALES or not (np.diff(array) > 0).all():
                raise ValueError(
                    f"scale grid: {name} must be 1 to {MOST_SCALES} ascending scales, got {array.tolist()}; "
                    "choose other multipliers"
                )
        if self.score_scales.shape != (self.q_scales.size, self.k_scales.size):
            raise ValueError(
                f"scale grid: score_scales must be [{self.q_scales.size},{self.k_scales.size}], one per pair of "
                f"scales, got {list(self.score_scales.shape)}; calibrate again"
            )

    @property
    def count(self) -> int:
        """How many buckets there are, without the rank-invariant one."""
        return self.score_scales.size

    @property
    def buckets(self) -> range:
        """Their numbers."""
        return range(1, 1 + self.count)

    def pair(self, bucket: int) -> tuple[int, int]:
        """Bucket number -> (i, j), indices of its scales of Q and K. ValueError for another number."""
        if bucket not in self.buckets:
            raise ValueError(f"bucket {bucket} is not one of the grid's 1..{self.count}; use EstimateKey's bucket")
        return divmod(bucket - 1, self.k_scales.size)

    def multiplier(self, bucket: int) -> float:
        """score_i8 per int32 accumulator step of the bucket's graph."""
        i, j = self.pair(bucket)
        return float(self.q_scales[i]) * float(self.k_scales[j]) / float(self.score_scales[i, j])

    def multipliers(self) -> Iterator[tuple[int, float]]:
        """(bucket, multiplier) of every bucket."""
        return ((bucket, self.multiplier(bucket)) for bucket in self.buckets)

    def nearest(self, q_scale: ArrayLike, k_scale: ArrayLike, by: str = "mse") -> np.ndarray:
        """Bucket numbers for measured scales (broadcast; 0-d for two numbers).

        by "mse": least (q_scale - SQ_i)^2 + (k_scale - SK_j)^2; "log": least |log| of either ratio. Equally near: the
        smaller scale. Beyond the grid: its outermost.
        """
        i = nearest_scale(self.q_scales, q_scale, by)
        j = nearest_scale(self.k_scales, k_scale, by)
        return 1 + i * self.k_scales.size + j

    def outside(self, q_scale: ArrayLike, k_scale: ArrayLike) -> np.ndarray:
        """bool, broadcast: a measured scale is below the smallest of the grid (levels lie idle) or above the largest
        (elements saturate)."""
        return _beyond(self.q_scales, q_scale) | _beyond(self.k_scales, k_scale)


def nearest_scale(scales: np.ndarray, measured: ArrayLike, by: str = "mse") -> np.ndarray:
    """Index of the scale nearest to each measured one; scales [n] float32 ascending.

    Compared as 2 m <= s_i + s_(i+1) ("mse") and m^2 <= s_i * s_(i+1) ("log"), which are exact in float64.
    """
    m = _measured(measured)
    low, high = scales[:-1].astype(np.float64), scales[1:].astype(np.float64)
    if by == "mse":
        return np.searchsorted(low + high, 2 * m, side="left")
    if by == "log":
        return np.searchsorted(low * high, m * m, side="left")
    raise ValueError(f"nearest scale by {by!r}: wanted {' or '.join(NEAREST)}")


def _beyond(scales: np.ndarray, measured: ArrayLike) -> np.ndarray:
    m = _measured(measured)
    return (m < scales[0]) | (m > scales[-1])


def _measured(scales: ArrayLike) -> np.ndarray:
    m = np.asarray(scales, np.float32).astype(np.float64)
    if not (np.isfinite(m) & (m >= 0)).all():
        raise ValueError(
            "a measured scale is negative, NaN or infinite; the model computes no numbers, convert it again"
        )
    return m
