"""Plan data: what calibration measured and the delegate needs (the twin of delegate/config/plan.h).

A plan is data of a bundle, not of its graphs, so that recalibrating never rewrites a model. The file `plan.bin`,
little-endian: `SHPL`, u32 version, i32 num_layers, num_heads, num_kv_heads, head_dim, f32 estimate_multiplier,
auto_threshold, u32 R, N, nq, nk; then f32 keep_ratios [R], lengths [N], thresholds [R,N]; then of the bucket grid f32
q_scales [nq], k_scales [nk], score_scales [nq,nk] (nq = nk = 0: no grid); then per layer f32 centre [N_kv,d],
scale [N_kv], k_variance [N_kv,d], threshold_factors [H], paper_budgets [H], static_ranges [5]; at the end the CRC-32 of
all before it.
"""

import dataclasses
import struct
import zlib

import numpy as np

from shadowattn.models.scale_grid import MOST_SCALES, ScaleGrid

MAGIC = b"SHPL"
VERSION = 3
FILE_NAME = "plan.bin"
NEXT_FILE_NAME = "plan.next.bin"  # while a plan is replaced
STATIC_RANGES = ("q", "k", "v", "score", "out")
_HEADER = struct.Struct("<4sIiiiiffIIII")
_MOST_ENTRIES = 256


@dataclasses.dataclass(frozen=True)
class ThresholdTable:
    """The threshold at which a row of a causal length keeps a share of its positions, on average over heads and rows.

    keep_ratios [R] and lengths [N] float32, ascending; values [R,N] float32: probabilities in (0, 1).
    """

    keep_ratios: np.ndarray
    lengths: np.ndarray
    values: np.ndarray

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.keep_ratios), len(self.lengths)) or not self.values.size:
            raise ValueError(
                f"plan: a threshold table of shape {self.values.shape} does not fit {len(self.keep_ratios)} keep "
                f"ratios and {len(self.lengths)} lengths"
            )
        if max(self.values.shape) > _MOST_ENTRIES:
            raise ValueError(f"plan: a threshold table has at most {_MOST_ENTRIES} entries each way")
        for name in ("keep_ratios", "lengths"):
            if not (np.diff(getattr(self, name), prepend=0) > 0).all():
                raise ValueError(f"plan: {name} of the threshold table must be positive and ascend; calibrate again")
        if not ((self.values > 0) & (self.values < 1)).all():
            raise ValueError("plan: thresholds must be in (0, 1); calibrate again")

    def at(self, keep_ratio: float, length: int) -> float:
        """The threshold of a row of `length` positions: 1 / threshold is linear in the keep ratio, and in the
        length; beyond the longest it grows with the length."""
        inverse = 1.0 / self.values.astype(np.float64)
        ratios = self.keep_ratios.astype(np.float64)
        by_length = [np.interp(np.float32(keep_ratio), ratios, inverse[:, i]) for i in range(len(self.lengths))]
        longest = float(self.lengths[-1])
        grown = max(1.0, length / longest)
        return float(1.0 / (np.interp(length, self.lengths.astype(np.float64), by_length) * grown))


def _unfitted() -> ThresholdTable:
    keep_ratios = np.array([0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0], np.float32)
    lengths = np.array([64, 8192], np.float32)
    return ThresholdTable(keep_ratios, lengths, 1 / (1 + 4 * keep_ratios[:, None] * lengths))


# Where no text was seen: an approximate law: a row that is to select k positions selects those above 1 / (4 k).
UNFITTED_THRESHOLDS = _unfitted()
AUTO_THRESHOLD = 1 / 512


@dataclasses.dataclass(frozen=True)
class Plan:
    """Static quantisation of K and of the estimate graph's output; thresholds and budgets of the heads.

    centre [L,N_kv,d] float32: mean of K per channel, subtracted before quantising (shifts a row's scores equally).
    scale [L,N_kv] float32: INT8 step of the centred K.
    k_variance [L,N_kv,d] float32: variance of the INT8 keys per channel, which predicts a query's score spread.
    estimate_multiplier: score_i8 per int32 accumulator step in the estimate graph (its static output scale).
    auto_threshold: the threshold of keep_ratio auto up to 2,048 positions; beyond, it falls as 1 / length.
    thresholds: those of given keep ratios.
    threshold_factors [L,H] float32: by what a head's threshold is multiplied. paper_budgets [L,H] float32: the paper's
    budgets as multiples of their mean (mode shadow_paper).
    static_ranges [L,5] float32: largest magnitudes of q, k, v, q . k and the output, for graphs of static scales (mode
    npu_full); zeros where nothing was measured.
    grid: scales of the bucketed estimate graphs, which are baked with them; None where there is nothing.
    """

    num_heads: int
    centre: np.ndarray
    scale: np.ndarray
    k_variance: np.ndarray
    estimate_multiplier: float
    auto_threshold: float
    thresholds: ThresholdTable
    threshold_factors: np.ndarray
    paper_budgets: np.ndarray
    static_ranges: np.ndarray
    grid: ScaleGrid | None = None

    def __post_init__(self) -> None:
        for name, shape in self._shapes().items():
            array = getattr(self, name)
            if array.shape != shape:
                raise ValueError(f"plan: shapes disagree: {name} is {array.shape}, centre {self.centre.shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"plan: {name} holds NaN or infinity; calibrate again on other text")
        if not (self.scale > 0).all() or not (self.k_variance >= 0).all():
            raise ValueError("plan: scales must be positive and variances not negative; calibrate again")
        if not (self.threshold_factors > 0).all() or not (self.paper_budgets >= 0).all():
            raise ValueError("plan: threshold factors must be positive and budgets not negative; calibrate again")
        if not (self.static_ranges >= 0).all():
            raise ValueError("plan: static ranges must not be negative; calibrate again")
        if not (np.isfinite(self.estimate_multiplier) and self.estimate_multiplier > 0):
            raise ValueError(f"plan: estimate_multiplier must be positive, got {self.estimate_multiplier}")
        if not 0 < self.auto_threshold < 1:
            raise ValueError(f"plan: auto_threshold must be in (0, 1), got {self.auto_threshold}")

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        layers, kv_heads, head_dim = self.centre.shape
        return {
            "centre": (layers, kv_heads, head_dim),
            "scale": (layers, kv_heads),
            "k_variance": (layers, kv_heads, head_dim),
            "threshold_factors": (layers, self.num_heads),
            "paper_budgets": (layers, self.num_heads),
            "static_ranges": (layers, len(STATIC_RANGES)),
        }

    @classmethod
    def uniform(
        cls,
        num_heads: int,
        centre: np.ndarray,
        scale: np.ndarray,
        k_variance: np.ndarray,
        estimate_multiplier: float,
        thresholds: ThresholdTable | None = None,
    ) -> "Plan":
        """The same for every head, no static ranges; thresholds None: UNFITTED_THRESHOLDS."""
        layers = len(centre)
        ones = np.ones((layers, num_heads), np.float32)
        return cls(
            num_heads=num_heads,
            centre=centre,
            scale=scale,
            k_variance=k_variance,
            estimate_multiplier=estimate_multiplier,
            auto_threshold=AUTO_THRESHOLD,
            thresholds=UNFITTED_THRESHOLDS if thresholds is None else thresholds,
            threshold_factors=ones,
            paper_budgets=ones,
            static_ranges=np.zeros((layers, len(STATIC_RANGES)), np.float32),
        )

    @property
    def num_layers(self) -> int:
        return int(self.centre.shape[0])

    @property
    def num_kv_heads(self) -> int:
        return int(self.centre.shape[1])

    @property
    def head_dim(self) -> int:
        return int(self.centre.shape[2])

    def to_bytes(self) -> bytes:
        """The bytes of plan.bin."""
        dims = (self.num_layers, self.num_heads, self.num_kv_heads, self.head_dim)
        table = self.thresholds
        sizes = _Sizes(
            len(table.keep_ratios), len(table.lengths), *(self.grid.score_scales.shape if self.grid else (0, 0))
        )
        parts = [
            _HEADER.pack(
                MAGIC, VERSION, *dims, self.estimate_multiplier, self.auto_threshold, *dataclasses.astuple(sizes)
            )
        ]
        parts += [_floats(array) for array in (table.keep_ratios, table.lengths, table.values)]
        if self.grid:
            parts += [_floats(array) for array in (self.grid.q_scales, self.grid.k_scales, self.grid.score_scales)]
        for layer in range(self.num_layers):
            parts += [_floats(getattr(self, name)[layer]) for name in self._shapes()]
        body = b"".join(parts)
        return body + struct.pack("<I", zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes, where: str = FILE_NAME) -> "Plan":
        """Reads plan.bin. Raises ValueError that names `where` if it is truncated, damaged or of another version."""
        dims, multiplier, auto_threshold, count = _check(data, where)
        layers, heads, kv_heads, head_dim = dims
        values = np.frombuffer(data[:-4], "<f4", offset=_HEADER.size)
        *table, q_scales, k_scales, score_scales, rest = (
            part.copy() for part in np.split(values, np.cumsum(count.floats()))
        )
        wide = kv_heads * head_dim
        sizes = [wide, kv_heads, wide, heads, heads]
        centre, scale, variance, factors, budgets, ranges = np.split(rest.reshape(layers, -1), np.cumsum(sizes), axis=1)
        return cls(
            num_heads=heads,
            centre=centre.reshape(layers, kv_heads, head_dim).copy(),
            scale=scale.copy(),
            k_variance=variance.reshape(layers, kv_heads, head_dim).copy(),
            estimate_multiplier=multiplier,
            auto_threshold=auto_threshold,
            thresholds=ThresholdTable(table[0], table[1], table[2].reshape(count.ratios, count.lengths)),
            threshold_factors=factors.copy(),
            paper_budgets=budgets.copy(),
            static_ranges=ranges.copy(),
            grid=ScaleGrid(q_scales, k_scales, score_scales.reshape(count.q, count.k)) if count.q else None,
        )


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """Sizes of the threshold table and of the bucket grid, in the header's order."""

    ratios: int
    lengths: int
    q: int
    k: int

    def floats(self) -> list[int]:
        """Numbers in each array before the layers."""
        return [self.ratios, self.lengths, self.ratios * self.lengths, self.q, self.k, self.q * self.k]

    def possible(self) -> bool:
        """What a plan may have."""
        table = 1 <= self.ratios <= _MOST_ENTRIES and 1 <= self.lengths <= _MOST_ENTRIES
        return table and (self.q == self.k == 0 or (1 <= self.q <= MOST_SCALES and 1 <= self.k <= MOST_SCALES))


def _floats(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array, "<f4").tobytes()


def _check(data: bytes, where: str) -> tuple[tuple[int, int, int, int], float, float, _Sizes]:
    if len(data) < _HEADER.size + 4 or data[:4] != MAGIC:
        raise ValueError(f"{where}: not a plan file (wanted {MAGIC!r} and a header); calibrate or convert again")
    _, version, *dims, multiplier, auto_threshold, ratios, lengths, q, k = _HEADER.unpack(data[: _HEADER.size])
    if version != VERSION:
        raise ValueError(f"{where}: plan version {version} is not {VERSION}; update shadowattn or convert again")
    layers, heads, kv_heads, head_dim = dims
    sizes = _Sizes(ratios, lengths, q, k)
    if min(dims) < 1 or not sizes.possible():
        raise ValueError(f"{where}: impossible shape {(*dims, ratios, lengths, q, k)}; calibrate again")
    per_layer = kv_heads * (2 * head_dim + 1) + 2 * heads + len(STATIC_RANGES)
    wanted = _HEADER.size + 4 * (sum(sizes.floats()) + layers * per_layer) + 4
    if len(data) != wanted:
        raise ValueError(f"{where}: expected {wanted} bytes, got {len(data)}; the file is truncated, calibrate again")
    if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        raise ValueError(f"{where}: wrong checksum; the file is damaged, calibrate again")
    return (layers, heads, kv_heads, head_dim), multiplier, auto_threshold, sizes
