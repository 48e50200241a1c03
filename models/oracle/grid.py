"""The slow oracle of the bucketed estimate (arXiv 2508.16703): measure a chunk, quantise by static scales, multiply in
a static INT8 graph. K is not centred here.

Layout: q [n,H,d], k [kv_len,N_kv,d] float32 of one layer, RoPE applied; query head h reads KV head h // G.
"""

import dataclasses

import numpy as np

from shadowattn.models.scale_grid import ScaleGrid


@dataclasses.dataclass(frozen=True)
class Projections:
    """What a layer computes for one chunk: rows q [R,H,d] of it at `positions` [R], and k [kv_len,N_kv,d] of all
    positions; q_scale [H], k_scale [N_kv] as measured over the whole chunk and over all keys."""

    q: np.ndarray
    positions: np.ndarray
    k: np.ndarray
    q_scale: np.ndarray
    k_scale: np.ndarray

    @classmethod
    def sampled(cls, q: np.ndarray, k: np.ndarray, rows: int) -> "Projections":
        """At most `rows` of the chunk q [n,H,d], spread evenly with its first and last; its rows are k's last."""
        chosen = np.unique(np.linspace(0, len(q) - 1, rows).astype(int))
        return cls(q[chosen], len(k) - len(q) + chosen, k, *chunk_scales(q, k))

    @property
    def seen(self) -> np.ndarray:
        """bool [R,kv_len]: the visible positions."""
        return np.arange(len(self.k)) <= self.positions[:, None]

    def buckets(self, grid: ScaleGrid, by: str = "mse") -> np.ndarray:
        """[H]: the bucket of each query head."""
        return grid.nearest(self.q_scale, np.repeat(self.k_scale, len(self.q_scale) // len(self.k_scale)), by)


def chunk_scales(q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """max|x| / 127 in float32 of each head: q_scale [H], k_scale [N_kv]."""
    q_scale, k_scale = (np.abs(x.astype(np.float32)).max(axis=(0, 2)) / np.float32(127) for x in (q, k))
    return q_scale, k_scale


def quantize_static(x: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    """x [n,heads,d], scale [heads] or one -> int8 clamp(rint(x * (1 / scale)), -127, 127), in float32."""
    return np.clip(_steps(x, scale), -127, 127).astype(np.int8)


def saturated(x: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    """bool [n,heads,d]: what quantize_static has to clamp."""
    return np.abs(_steps(x, scale)) > 127


def grid_scores(q_i8: np.ndarray, k_i8: np.ndarray, multiplier: np.ndarray | float) -> np.ndarray:
    """The static graph of a bucket: q_i8 [...,rows,d], k_i8 [...,S,d] -> int8 [...,rows,S],
    clamp(rint(acc * multiplier), -128, 127)."""
    return np.clip(unclamped_scores(q_i8, k_i8, multiplier), -128, 127).astype(np.int8)


def unclamped_scores(q_i8: np.ndarray, k_i8: np.ndarray, multiplier: np.ndarray | float) -> np.ndarray:
    """float32 rint(acc * multiplier), in float32: beyond -128..127 grid_scores saturates."""
    return np.rint(accumulate(q_i8, k_i8) * np.float32(multiplier))


def quantize_heads(layer: Projections, grid: ScaleGrid, buckets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every query head by its bucket's scales, a unit of its own: q_i8 [H,R,d], k_i8 [H,kv_len,d]."""
    i, j = np.divmod(buckets - 1, len(grid.k_scales))
    group = len(buckets) // layer.k.shape[1]
    q_i8 = quantize_static(layer.q, grid.q_scales[i])
    k_i8 = quantize_static(layer.k, grid.k_scales[j[::group]])
    return q_i8.transpose(1, 0, 2), np.repeat(k_i8.transpose(1, 0, 2), group, axis=0)


def bucket_multipliers(grid: ScaleGrid, buckets: np.ndarray) -> np.ndarray:
    """float32 [H,1,1]: those of the heads' buckets."""
    return np.array([grid.multiplier(bucket) for bucket in buckets.tolist()], np.float32)[:, None, None]


def accumulate(q_i8: np.ndarray, k_i8: np.ndarray) -> np.ndarray:
    """Sums of products: float32 [...,rows,S], exact because d * 128^2 is at most 2^23 (spec.MAX_HEAD_DIM).

    By einsum, which uses no BLAS: its threads are 50 times slower at these small products where cores are shared.
    """
    return np.einsum("...rd,...sd->...rs", q_i8.astype(np.float32), k_i8.astype(np.float32))


def _steps(x: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    inverse = np.float32(1) / np.asarray(scale, np.float32)
    with np.errstate(over="ignore"):
        return np.rint(x.astype(np.float32) * inverse[..., None])
