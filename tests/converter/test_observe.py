"""Conversion's observations against loops over rows and positions, and against what the delegate observes."""

import numpy as np
import pytest
import torch

from shadowattn.converter.observe import join_layers, observe_layer
from shadowattn.models.observations import BINS, LADDER
from shadowattn.models.oracle.shadow import residual_of
from shadowattn.models.oracle.steps import SelectRule

SEED = 5
SCALE = 0.3
RULE = SelectRule(min_k=64, sinks=1, latest=4)


def qkv(length: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    return [torch.randn(length, heads, 16, generator=generator) for heads in (4, 2, 2)]


def attend(weights: np.ndarray, kept: np.ndarray, v: np.ndarray) -> np.ndarray:
    """docs/algorithm.md, steps 4 and 5, for the n positions of a row."""
    residual, mass = residual_of(np.where(kept, 0, weights), kept & (np.arange(len(kept)) >= RULE.sinks), v)
    return (weights[kept] @ v[kept] + residual) / (weights[kept].sum() + mass)


def test_observations_are_those_of_loops() -> None:
    """80 positions: the rows that choose are 65 .. 80, and each is looked at."""
    q, k, v = qkv(80)
    seen = observe_layer(q, k, v, SCALE, RULE)
    histogram, errors, norms, largest = np.zeros((4, BINS)), np.zeros((4, len(LADDER))), np.zeros(4), 0.0
    for head in range(4):
        keys, values = k[:, head // 2].double().numpy(), v[:, head // 2].double().numpy()
        for n in range(1, 81):
            products = keys[:n] @ q[n - 1, head].double().numpy()
            largest = max(largest, np.abs(products).max())
            if n <= 64:
                continue
            weights = np.exp(SCALE * products - (SCALE * products).max())
            probability = weights / weights[1:].sum()
            forced = (np.arange(n) < 1) | (np.arange(n) >= n - 4)
            bins = np.clip(np.ceil(-2 * np.log2(probability[~forced])) - 1, 0, BINS - 1).astype(int)
            histogram[head] += np.bincount(bins, minlength=BINS)
            everything = attend(weights, np.ones(n, bool), values[:n])
            norms[head] += everything @ everything
            for i, threshold in enumerate(LADDER):
                output = attend(weights, forced | (probability >= threshold), values[:n])
                errors[head, i] += ((output - everything) ** 2).sum()
    assert (seen.rows[0, :, 0] == 16).all()
    assert np.abs(seen.histogram[0, :, 0] - histogram).sum() <= 4  # float32 may put one into the next bin
    np.testing.assert_allclose(seen.norms[0, :, 0], norms, rtol=1e-4)
    np.testing.assert_allclose(seen.errors[0, :, 0], errors, rtol=0.02, atol=1e-6)
    np.testing.assert_allclose(seen.ranges[0, 3], largest, rtol=1e-5)


def test_sampled_rows_stand_for_all() -> None:
    q, k, v = qkv(600)
    seen = observe_layer(q, k, v, SCALE, RULE)
    lengths = np.arange(65, 601)
    for octave, (low, high) in enumerate(((64, 128), (128, 256), (256, 512), (512, 1024))):
        own = lengths[(lengths >= low) & (lengths < high)]
        assert seen.rows[0, 0, octave] == pytest.approx(len(own))
        assert seen.histogram[0, :, octave].sum(axis=-1) == pytest.approx((own - 5).sum(), rel=0.01)
    both = join_layers([seen, seen])
    assert both.histogram.shape[:2] == (2, 4)
    assert both.octaves == 4


def test_nothing_is_seen_of_a_short_text() -> None:
    assert observe_layer(*qkv(64), SCALE, RULE).octaves == 0
