"""Fits the bucket grid to a text, and reports what its static scales cost each head there.

The scales of Q and of K are multiples of their means over layers, chunks and heads (arXiv 2508.16703: 0.5, 1 and 2).
Of each pair, the output scale is such that the largest score of the heads that took it, over positions that their rows
see, is level 127.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from shadowattn.models.oracle.grid import (
    Projections,
    accumulate,
    bucket_multipliers,
    quantize_heads,
    saturated,
    unclamped_scores,
)
from shadowattn.models.scale_grid import MOST_SCALES, ScaleGrid

PAPER_MULTIPLIERS = (0.5, 1.0, 2.0)
_SMALLEST_MEAN = 1e-12


def check_multipliers(multipliers: Sequence[float]) -> None:
    """Raises ValueError unless they are 1 to 16, ascending, within 1e-3..1e3 (beyond, a scale fits no head)."""
    ascend = all(a < b for a, b in itertools.pairwise(multipliers))
    if not (1 <= len(multipliers) <= MOST_SCALES and ascend and all(1e-3 <= m <= 1e3 for m in multipliers)):
        raise ValueError(
            f"grid multipliers must be 1 to {MOST_SCALES} ascending numbers in 0.001..1000, got {list(multipliers)}; "
            f"the paper's are {', '.join(f'{m:g}' for m in PAPER_MULTIPLIERS)}"
        )


def fit_grid(layers: Sequence[Projections], multipliers: Sequence[float] = PAPER_MULTIPLIERS) -> ScaleGrid:
    """The grid of all layers and chunks in `layers`. Raises ValueError for multipliers as check_multipliers does."""
    check_multipliers(multipliers)
    q_scales, k_scales = (
        np.array(multipliers) * max(float(np.mean([getattr(layer, name) for layer in layers])), _SMALLEST_MEAN)
        for name in ("q_scale", "k_scale")
    )
    grid = ScaleGrid(q_scales, k_scales, np.ones((len(q_scales), len(k_scales))))
    largest = np.zeros(1 + grid.count)
    for layer in layers:
        buckets = layer.buckets(grid)
        accumulators = accumulate(*quantize_heads(layer, grid, buckets))
        np.maximum.at(largest, buckets, np.abs(accumulators * layer.seen).max(axis=(1, 2)))
    # A pair that no head took is as wide as the widest: it wastes levels rather than to saturate.
    taken = np.where(largest > 0, largest, largest.max())[1:].reshape(grid.score_scales.shape)
    steps = grid.q_scales[:, None].astype(np.float64) * grid.k_scales
    return dataclasses.replace(grid, score_scales=steps * np.maximum(taken, 1.0) / 127)


@dataclasses.dataclass(frozen=True)
class HeadReport:
    """Of each query head [H], over the visible positions: shares of scores that saturate and that are 0, the
    distinct levels in a row; shares of q's and of k's elements that saturate; 1.0 where the head's scales lie outside
    the grid. Means over rows and chunks."""

    saturation: np.ndarray
    zeros: np.ndarray
    levels: np.ndarray
    q_saturation: np.ndarray
    k_saturation: np.ndarray
    outside: np.ndarray


def report_heads(chunks: Sequence[Projections], grid: ScaleGrid) -> HeadReport:
    """One layer's chunks."""
    reports = [dataclasses.asdict(_report(chunk, grid)) for chunk in chunks]
    return HeadReport(**{name: np.mean([report[name] for report in reports], axis=0) for name in reports[0]})


def _report(layer: Projections, grid: ScaleGrid) -> HeadReport:
    buckets = layer.buckets(grid)
    i, j = np.divmod(buckets - 1, len(grid.k_scales))
    group = len(buckets) // len(layer.k_scale)
    unclamped = unclamped_scores(*quantize_heads(layer, grid, buckets), bucket_multipliers(grid, buckets))
    seen = layer.seen
    return HeadReport(
        saturation=_share((unclamped > 127) | (unclamped < -128), seen),
        zeros=_share(unclamped == 0, seen),
        levels=_levels_in_a_row(np.clip(unclamped, -128, 127).astype(np.int64), seen),
        q_saturation=saturated(layer.q, grid.q_scales[i]).mean(axis=(0, 2)),
        k_saturation=np.repeat(saturated(layer.k, grid.k_scales[j[::group]]).mean(axis=(0, 2)), group),
        outside=grid.outside(layer.q_scale, np.repeat(layer.k_scale, group)).astype(np.float64),
    )


def _share(marked: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """marked [H,R,S], seen [R,S] -> [H]."""
    return (marked & seen).sum(axis=(1, 2)) / seen.sum()


def _levels_in_a_row(scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """scores [H,R,S] -> [H]: distinct levels among the visible positions, mean over rows."""
    heads, rows, _ = scores.shape
    row = np.arange(heads * rows).reshape(heads, rows, 1) * 256
    found = (row + scores + 128)[np.broadcast_to(seen, scores.shape)]
    there = np.bincount(found, minlength=heads * rows * 256).reshape(heads, rows, 256) > 0
    return there.sum(axis=2).mean(axis=1)


def summary(reports: Sequence[HeadReport]) -> Mapping[str, Mapping[str, object]]:
    """Reports of all layers -> per figure its mean and its worst with [layer, head], for the manifest."""
    figures = {}
    for field in dataclasses.fields(HeadReport):
        values = np.stack([getattr(report, field.name) for report in reports])
        worst = int(values.argmin() if field.name == "levels" else values.argmax())
        layer, head = (int(index) for index in np.unravel_index(worst, values.shape))
        figures[field.name] = {
            "mean": float(f"{values.mean():.4g}"),
            "worst": float(f"{values[layer, head]:.4g}"),
            "at": [layer, head],
        }
    return figures
