"""Rounding that compensates, against the oracle that inverts anew for each column."""

import numpy as np
import pytest
import torch
from gptq_oracle import round_rows

from shadowattn.converter.recipes import parse_recipe
from shadowattn.converter.rounding import DAMPING, moments, round_to_int8

SEED = 20261130


def inputs_and_weight(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [tokens,columns] that have much in common, as a model's do."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    mixing = rng.standard_normal((columns, columns)) * np.geomspace(3, 0.1, columns)[:, None]
    return rng.standard_normal((3 * columns, columns)) @ mixing, rng.standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 3), (7, 63), (4, 64), (3, 65), (6, 130)])
def test_integers_are_those_of_the_oracle(rows, columns):
    inputs, weight = inputs_and_weight(rows, columns)
    second_moments = inputs.T @ inputs
    stored = round_to_int8(weight, torch.from_numpy(second_moments))
    assert stored.scale is not None
    np.testing.assert_allclose(stored.scale, np.abs(weight).max(axis=1) / 127, rtol=1e-6)
    steps = (weight / stored.scale[:, None]).astype(np.float64)
    np.testing.assert_array_equal(stored.data, round_rows(steps, second_moments, DAMPING))


def error_of(rounded: np.ndarray, weight: np.ndarray, inputs: np.ndarray) -> float:
    return float((((rounded - weight) @ inputs.T) ** 2).mean())


def test_outputs_are_nearer_than_with_plain_rounding():
    inputs, weight = inputs_and_weight(32, 96)
    stored = round_to_int8(weight, moments(torch.from_numpy(inputs.astype(np.float32))))
    plain = parse_recipe("int8").store("a.weight", weight)
    assert error_of(stored.dequantized(), weight, inputs) < 0.6 * error_of(plain.dequantized(), weight, inputs)


def test_inputs_of_one_direction_and_dead_channels_are_rounded():
    """A singular H: fewer tokens than channels, and channels that are always zero."""
    inputs = np.zeros((2, 40), np.float32)
    inputs[:, :5] = 1e4
    weight = np.random.default_rng(3).standard_normal((4, 40)).astype(np.float32)
    stored = round_to_int8(weight, moments(torch.from_numpy(inputs)))
    assert (np.abs(stored.dequantized()[:, 5:] - weight[:, 5:]) <= 0.5001 * stored.scale[:, None]).all()
    assert error_of(stored.dequantized(), weight, inputs) <= error_of(
        parse_recipe("int8").store("a.weight", weight).dequantized(), weight, inputs
    )


def test_inputs_of_zeros_round_to_the_nearest():
    weight = np.random.default_rng(4).standard_normal((3, 9)).astype(np.float32)
    stored = round_to_int8(weight, torch.zeros(9, 9))
    np.testing.assert_array_equal(stored.data, parse_recipe("int8").store("a.weight", weight).data)


def test_inputs_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="a layer computes NaN or infinity"):
        round_to_int8(np.ones((1, 2), np.float32), torch.full((2, 2), float("nan")))
