"""The bucketed estimate's oracle against plain Python numbers, and the fit of its grid against loops."""

import math

import numpy as np
import pytest

from shadowattn.models.grid_fit import fit_grid, report_heads, summary
from shadowattn.models.oracle.grid import (
    Projections,
    chunk_scales,
    grid_scores,
    quantize_static,
    saturated,
    unclamped_scores,
)
from shadowattn.models.scale_grid import ScaleGrid


def test_scales_of_a_chunk() -> None:
    q = np.array([[[1, -254], [0, 0]], [[3, 2], [0, -127]]], np.float32)
    k = np.array([[[-63.5, 1]]], np.float32)
    q_scale, k_scale = chunk_scales(q, k)
    assert (q_scale.tolist(), k_scale.tolist(), q_scale.dtype) == ([2, 1], [0.5], np.float32)


def test_static_quantisation_rounds_half_to_even_and_clamps() -> None:
    x = np.array([[[0.25, 0.75, -0.25, 63.5, -63.75, 1e38]]], np.float32)
    assert quantize_static(x, 0.5).tolist() == [[[0, 2, 0, 127, -127, 127]]]
    assert saturated(x, 0.5).tolist() == [[[False, False, False, False, True, True]]]
    assert quantize_static(x, np.finfo(np.float32).tiny)[0, 0, -1] == 127  # the product overflows float32


def test_static_quantisation_takes_a_scale_per_head() -> None:
    x = np.full((2, 3, 4), 12, np.float32)
    assert quantize_static(x, np.array([1, 2, 0.1], np.float32))[1, :, 0].tolist() == [12, 6, 120]


def test_scores_are_rounded_half_to_even_and_clamped() -> None:
    q_i8 = np.array([[1], [3], [-127], [127]], np.int8)
    k_i8 = np.array([[1], [5], [127]], np.int8)
    assert grid_scores(q_i8, k_i8, 0.5).tolist() == [[0, 2, 64], [2, 8, 127], [-64, -128, -128], [64, 127, 127]]
    assert unclamped_scores(q_i8, k_i8, 0.5)[2].tolist() == [-64, -318, -8064]


def _random_layers(rng: np.random.Generator) -> list[Projections]:
    """3 layers of 2 chunks, 4 query heads, 2 KV heads, of sizes far apart."""
    found = []
    for _ in range(3):
        q, k = (np.exp(rng.normal(0, 1.5, heads))[:, None] * rng.normal(size=(40, heads, 8)) for heads in (4, 2))
        for start, end in ((0, 24), (24, 40)):
            found.append(Projections.sampled(q[start:end].astype(np.float32), k[:end].astype(np.float32), 7))
    return found


def _acc(layer: Projections, head: int, row: int, position: int, scales: tuple[float, float]) -> int:
    def step(value: float, scale: float) -> int:
        return max(-127, min(127, round(float(np.float32(value) * (np.float32(1) / np.float32(scale))))))

    q, k = layer.q[row, head].tolist(), layer.k[position, head // 2].tolist()
    return sum(step(a, scales[0]) * step(b, scales[1]) for a, b in zip(q, k, strict=True))


def _nearest(scales: list[float], measured: float) -> int:
    return min(range(len(scales)), key=lambda i: (scales[i] - measured) ** 2)


@pytest.mark.parametrize("multipliers", [(0.5, 1.0, 2.0), (1.0,), (0.25, 3.0)])
def test_the_fit_against_loops(multipliers: tuple[float, ...]) -> None:
    seed = int(np.random.default_rng().integers(1 << 31))
    print(f"seed {seed}")
    layers = _random_layers(np.random.default_rng(seed))
    grid = fit_grid(layers, multipliers)
    for scales, name in ((grid.q_scales, "q_scale"), (grid.k_scales, "k_scale")):
        mean = math.fsum(float(x) for layer in layers for x in getattr(layer, name))
        mean /= sum(len(getattr(layer, name)) for layer in layers)
        np.testing.assert_allclose(scales, np.array(multipliers) * mean, rtol=1e-6)
    largest: dict[tuple[int, int], int] = {}
    for layer in layers:
        for head in range(4):
            i = _nearest(grid.q_scales.tolist(), float(layer.q_scale[head]))
            j = _nearest(grid.k_scales.tolist(), float(layer.k_scale[head // 2]))
            for row, last in enumerate(layer.positions.tolist()):
                for position in range(last + 1):
                    acc = abs(_acc(layer, head, row, position, (grid.q_scales[i], grid.k_scales[j])))
                    largest[i, j] = max(acc, largest.get((i, j), 0))
    for i, q_scale in enumerate(grid.q_scales.tolist()):
        for j, k_scale in enumerate(grid.k_scales.tolist()):
            wanted = largest.get((i, j), max(largest.values())) * q_scale * k_scale / 127
            assert grid.score_scales[i, j] == pytest.approx(wanted, rel=1e-6)


def test_samples_are_the_last_rows_and_keep_the_whole_chunks_scale() -> None:
    q = np.zeros((16, 2, 4), np.float32)
    q[5, 1, 2] = 254  # in no sampled row
    layer = Projections.sampled(q, np.ones((20, 1, 4), np.float32), 4)
    assert layer.positions.tolist() == [4, 9, 14, 19]
    assert layer.q_scale.tolist() == [0, 2]
    assert len(Projections.sampled(q[:2], np.ones((2, 1, 4), np.float32), 4).q) == 2


def test_a_report_counts_what_rows_see() -> None:
    # One head, d 1; step 1 for q and k, a level is 2 of q . k.
    grid = ScaleGrid(np.ones(1), np.ones(1), np.full((1, 1), 2.0))
    q = np.array([1, 200], np.float32).reshape(2, 1, 1)
    k = np.array([0, 4, 100, -100], np.float32).reshape(4, 1, 1)
    layer = Projections(q, np.array([2, 3]), k, *chunk_scales(q, k))
    report = report_heads([layer, layer], grid)
    # Row 0 sees levels 0, 2, 50; row 1, its 200 clamped to 127, 0, 254, 6350, -6350, the last three clamped.
    assert report.saturation.tolist() == pytest.approx([3 / 7])
    assert report.zeros.tolist() == pytest.approx([2 / 7])
    assert report.levels.tolist() == [3.0]
    assert (report.q_saturation.tolist(), report.k_saturation.tolist()) == ([0.5], [0.0])
    assert report.outside.tolist() == [1.0]


def test_what_was_fitted_does_not_saturate_and_the_summary_names_the_worst() -> None:
    layers = _random_layers(np.random.default_rng(5))
    grid = fit_grid(layers)
    reports = [report_heads(layers[2 * i : 2 * i + 2], grid) for i in range(3)]
    figures = summary(reports)
    assert figures["saturation"] == {"mean": 0.0, "worst": 0.0, "at": [0, 0]}
    levels = np.stack([report.levels for report in reports])
    layer, head = figures["levels"]["at"]
    assert levels[layer, head] == levels.min()
    assert figures["levels"]["worst"] == pytest.approx(levels.min(), rel=1e-3)
    zeros = np.stack([report.zeros for report in reports])
    assert figures["zeros"]["worst"] == pytest.approx(zeros.max(), rel=1e-3)


def test_a_model_of_zeros_gets_a_grid() -> None:
    zeros = Projections.sampled(np.zeros((3, 2, 4), np.float32), np.zeros((3, 1, 4), np.float32), 3)
    grid = fit_grid([zeros])
    assert [grid.multiplier(bucket) for bucket in grid.buckets] == pytest.approx([127.0] * 9)
    assert (report_heads([zeros], grid).zeros == 1).all()


@pytest.mark.parametrize(
    "multipliers", [(1.0, 1.0), (2.0, 1.0), (0.0, 1.0), (-1.0,), (), (float("nan"),), (1e9,)], ids=str
)
def test_impossible_multipliers_are_refused(multipliers: tuple[float, ...]) -> None:
    layers = _random_layers(np.random.default_rng(5))
    with pytest.raises(ValueError, match="grid multipliers must be 1 to 16 ascending"):
        fit_grid(layers, multipliers)
