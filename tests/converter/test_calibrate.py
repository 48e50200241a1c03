"""Calibration against transformers: the plan holds the statistics of the keys that transformers' own cache holds."""

import numpy as np
import pytest
import torch

from shadowattn.converter.calibrate import _measure, _Statistics, calibrate
from shadowattn.converter.calibration_text import CalibrationText
from shadowattn.converter.formats import open_checkpoint
from shadowattn.models import bundle
from shadowattn.models.families import read_config
from shadowattn.models.oracle.steps import COARSE_SPREAD, quantize_keys, quantize_queries_coarse
from shadowattn.models.plan import FILE_NAME, Plan

FAMILIES = ("llama", "qwen2", "qwen3")


@pytest.fixture
def text() -> CalibrationText:
    return CalibrationText("random", np.random.default_rng(1).integers(0, 288, 96))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plan_describes_the_keys_of_transformers(family, tiny, text):
    model = tiny(family)
    checkpoint = open_checkpoint(model.path)
    plan = calibrate(read_config(checkpoint.config), checkpoint.read, text, lambda *_: None).plan
    with torch.inference_mode():
        cache = model.model(torch.from_numpy(text.ids)[None], use_cache=True).past_key_values
    spec = read_config(checkpoint.config)
    for layer in range(2):
        seen = cache.layers[layer].keys[0].transpose(0, 1).numpy()  # [T,N_kv,d]
        keys = np.concatenate([seen, all_over_the_context(seen, spec)])
        np.testing.assert_allclose(plan.centre[layer], keys.mean(axis=0), atol=1e-4)
        largest = np.abs(keys - keys.mean(axis=0)).max(axis=(0, 2))
        np.testing.assert_allclose(plan.scale[layer] * 127, largest, rtol=1e-3)
        k_i8, saturated = quantize_keys(keys, plan.centre[layer], plan.scale[layer])
        assert saturated <= 2
        np.testing.assert_allclose(plan.k_variance[layer], k_i8.astype(float).var(axis=0), rtol=0.02, atol=0.5)


def all_over_the_context(keys, spec):
    """The same keys as if the text were stretched to the model's whole context: channel pairs as complex numbers."""
    half = spec.head_dim // 2
    pairs = keys[..., :half] + 1j * keys[..., half:]
    stretched = np.arange(len(keys)) * spec.max_length / len(keys) - np.arange(len(keys))
    pairs = pairs * np.exp(1j * np.outer(stretched, spec.rope.inverse_frequencies(spec.head_dim)))[:, None]
    return np.concatenate([pairs.real, pairs.imag], axis=-1).astype(np.float32)


def test_keys_far_behind_the_calibration_text_are_not_clamped(tiny):
    """Keys that have much in common, as trained ones do: RoPE turns that to where the calibration text never had it."""
    spec = read_config(open_checkpoint(tiny("llama").path).config)
    rng = np.random.default_rng(5)
    common = 8 * rng.standard_normal((1, spec.num_kv_heads, spec.head_dim))
    before_rope = (common + rng.standard_normal((96, spec.num_kv_heads, spec.head_dim))).astype(np.float32)

    def at(first):
        half = spec.head_dim // 2
        turn = np.exp(1j * np.outer(first + np.arange(96), spec.rope.inverse_frequencies(spec.head_dim)))[:, None]
        pairs = (before_rope[..., :half] + 1j * before_rope[..., half:]) * turn
        return np.concatenate([pairs.real, pairs.imag], axis=-1).astype(np.float32)

    q = rng.standard_normal((96, spec.num_heads, spec.head_dim)).astype(np.float32)
    measured = _Statistics([], [], [], [], [], [])
    _measure(spec, q, at(0), measured)
    for first in (0, spec.max_length // 2, spec.max_length - 96):
        _, saturated = quantize_keys(at(first), measured.centre[0], measured.scale[0])
        assert saturated <= 0.002 * before_rope.size, f"position {first}"


def test_most_coarse_rows_reach_their_full_spread(tiny, text):
    model = tiny("llama")
    checkpoint = open_checkpoint(model.path)
    plan = calibrate(read_config(checkpoint.config), checkpoint.read, text, lambda *_: None).plan
    rng = np.random.default_rng(2)
    q = rng.standard_normal((64, 5, 40)).astype(np.float32)
    q_i8 = quantize_queries_coarse(q, plan.k_variance[0], plan.estimate_multiplier)
    keys = rng.standard_normal((512, 40)) * np.sqrt(plan.k_variance[0, 0])
    spread = (q_i8[0].astype(float) @ keys.T * plan.estimate_multiplier).std(axis=1)
    assert np.median(spread) == pytest.approx(COARSE_SPREAD, rel=0.15)


def test_plan_of_the_bundle_is_for_its_model(tiny_bundle):
    _, path = tiny_bundle("qwen2")
    plan, spec = Plan.from_bytes((path / FILE_NAME).read_bytes()), bundle.read_manifest(path).model
    assert (plan.num_layers, plan.num_heads, plan.num_kv_heads, plan.head_dim) == (
        spec.num_layers,
        spec.num_heads,
        spec.num_kv_heads,
        spec.head_dim,
    )
