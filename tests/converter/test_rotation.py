"""The rotated model is the model: matrices are orthogonal, and every family's logits stay those of transformers."""

import dataclasses

import numpy as np
import pytest
from test_bundle_of_every_family import TOLERANCE, SplitRunner
from tiny_models import CHUNK, FAMILIES

from shadowattn.converter.orthogonal import hadamard, random_orthogonal
from shadowattn.converter.rotation import deal_channels, down_block, mix_blocks
from shadowattn.models.bundle import read_manifest
from shadowattn.models.spec import ModelSpec, RopeSpec

SPEC = ModelSpec("llama", 288, 64, 96, 2, 4, 2, 16, 1e-5, RopeSpec(1e4), 64, True)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_a_rotated_model_equal_transformers(family, tiny_bundle):
    model, path = tiny_bundle(family, "float32:rotate=on")
    assert read_manifest(path).weights == "float32:rotate=on"
    tokens = np.random.default_rng(7).integers(0, 288, 2 * CHUNK)
    wanted = model.logits(tokens)
    runner = SplitRunner(path)
    for start in (0, CHUNK):
        logits = runner.run(tokens[start : start + CHUNK], start)
        row = wanted[start + CHUNK - 1]
        assert np.abs(logits - row).max() <= TOLERANCE * np.abs(row).max(), f"chunk at {start}"


@pytest.mark.parametrize("size", [1, 2, 3, 8, 15, 16, 24, 36, 64, 100, 576, 1001])
def test_a_matrix_is_the_product_of_its_factors_and_orthogonal(size):
    matrix_of = random_orthogonal(size, np.random.default_rng(size))
    matrix = np.eye(1)
    for factor in matrix_of.factors:
        matrix = np.kron(matrix, factor)
    matrix = matrix_of.signs[:, None] * matrix
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-5)
    x = np.random.default_rng(0).standard_normal((2, 3, size)).astype(np.float32)
    np.testing.assert_allclose(matrix_of.apply(x), x @ matrix, atol=1e-5 * np.sqrt(size))
    np.testing.assert_allclose(matrix_of.apply_to_rows(x[0].T), matrix.T @ x[0].T, atol=1e-5 * np.sqrt(size))


def test_one_large_channel_is_spread_over_all():
    matrix_of = random_orthogonal(576, np.random.default_rng(1))
    x = np.zeros(576, np.float32)
    x[17] = 100
    assert np.abs(matrix_of.apply(x)).max() < 100 * 0.15  # 1 / sqrt(576) is 0.04


@pytest.mark.parametrize("size", [1, 2, 16, 64])
def test_hadamard_is_symmetric_and_its_own_inverse(size):
    matrix = hadamard(size)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(matrix @ matrix, np.eye(size), atol=1e-6)


def test_large_channels_are_dealt_to_different_blocks():
    magnitude = np.ones(96)
    magnitude[[3, 4, 5, 6, 7, 8]] = [60, 50, 40, 30, 20, 10]
    order = deal_channels(magnitude, 16)
    assert sorted(order) == list(range(96))
    assert (magnitude[order].reshape(6, 16).max(axis=1) > 1).all()


def test_blocks_are_mixed_alone():
    x = np.zeros((2, 12), np.float32)
    x[1, 5] = 2
    np.testing.assert_array_equal(mix_blocks(x, 4)[1], [0, 0, 0, 0, 1, -1, 1, -1, 0, 0, 0, 0])
    assert not mix_blocks(x, 4)[0].any()


@pytest.mark.parametrize(("size", "block"), [(99, 1), (90, 2), (100, 4), (8192, 16)])
def test_blocks_divide_the_input_of_the_down_projection(size, block):
    spec = dataclasses.replace(SPEC, intermediate_size=size)
    assert down_block(spec) == block
