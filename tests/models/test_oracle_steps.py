"""The oracle itself, against sentences of docs/algorithm.md that can be checked by hand."""

import numpy as np
import pytest

from shadowattn.models.oracle import steps
from shadowattn.models.oracle.steps import SelectRule


def test_k_has_a_floor_and_a_ceiling() -> None:
    rule = SelectRule(keep_ratio=0.2, min_k=64)
    assert [rule.k(n) for n in (1, 63, 64, 65, 320, 322, 323, 5000)] == [1, 63, 64, 64, 64, 64, 65, 1000]


def test_equal_scores_are_filled_newest_first() -> None:
    kept = steps.select(np.zeros(10, np.int32), SelectRule(keep_ratio=0.4, min_k=1, sinks=1, latest=1))
    assert kept.tolist() == [0, 7, 8, 9]


def test_forced_positions_stay_inside_k_in_their_order() -> None:
    scores = np.arange(100, 0, -1, dtype=np.int32)
    for k, expected in [(1, [99]), (2, [0, 99]), (3, [0, 1, 99]), (4, [0, 1, 98, 99]), (5, [0, 1, 2, 98, 99])]:
        rule = SelectRule(keep_ratio=k / 100, min_k=1, sinks=2, latest=2)
        assert steps.select(scores, rule).tolist() == expected


def test_select_is_the_brute_force_top_k() -> None:
    seed = 20261121
    print("seed", seed)
    rng = np.random.default_rng(seed)
    for _ in range(200):
        n = int(rng.integers(1, 60))
        scores = rng.integers(-3, 4, n).astype(np.int32)
        rule = SelectRule(float(rng.uniform(0.01, 1)), int(rng.integers(1, 9)), int(rng.integers(0, 4)), 0)
        kept = steps.select(scores, rule)
        assert len(kept) == rule.k(n)
        assert n - 1 in kept
        free = [p for p in range(rule.sinks, n - 1)]
        taken = [p for p in free if p in kept]
        best = sorted(free, key=lambda p: (-scores[p], -p))[: len(taken)]
        assert taken == sorted(best)


def test_attend_over_one_position_is_its_value() -> None:
    values = np.array([[1.0, -2.0, 3.0]])
    np.testing.assert_allclose(steps.attend(np.ones(3), np.ones((1, 3)), values, 0.5), values[0])


def test_keep_everything_is_dense() -> None:
    rng = np.random.default_rng(1)
    q, keys, values = rng.normal(size=(3, 4, 8)), rng.normal(size=(7, 2, 8)), rng.normal(size=(7, 2, 8))
    scores = rng.integers(-99, 99, (3, 4, 7))
    sparse = steps.sparse_attention(q, keys, values, scores, SelectRule(1.0), 0.3)
    np.testing.assert_array_equal(sparse, steps.sparse_attention(q, keys, values, None, SelectRule(), 0.3))


def test_quantised_keys_centre_clamp_and_count() -> None:
    keys = np.array([[[1.0, 2.0]], [[300.0, -300.0]]], np.float32)
    q, clamped = steps.quantize_keys(keys, np.array([[1.0, 0.0]], np.float32), np.array([0.5], np.float32))
    assert q.tolist() == [[[0, 4]], [[127, -127]]]
    assert clamped == 2


def test_queries_use_the_whole_range_and_zero_rows_stay_zero() -> None:
    q = steps.quantize_queries(np.array([[0.5, -1.0, 0.0], [0, 0, 0]], np.float32))
    assert q.tolist() == [[64, -127, 0], [0, 0, 0]]
    assert not steps.quantize_queries(np.full((1, 3), 1e-38, np.float32)).any()


def test_coarse_scores_have_the_spread_that_was_aimed_at() -> None:
    seed = 7
    print("seed", seed)
    rng = np.random.default_rng(seed)
    k_i8 = np.clip(np.rint(rng.normal(0, 35, (4000, 1, 64))), -127, 127).astype(np.int8)
    q = rng.normal(size=(8, 2, 64)).astype(np.float32) * rng.uniform(0.01, 9, (8, 2, 1)).astype(np.float32)
    variance = k_i8.astype(np.float32).var(axis=0)
    multiplier = 1 / 400
    coarse = steps.quantize_queries_coarse(q, variance, multiplier)
    scores = steps.estimate_coarse(coarse, np.swapaxes(k_i8, 0, 1), multiplier)
    assert scores.shape == (1, 16, 4000)
    assert np.abs(scores.std(axis=-1) - 24).max() < 3


@pytest.mark.parametrize("heads", [(4, 4), (4, 1), (10, 2)])
def test_estimate_follows_the_group(heads: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    q = rng.integers(-127, 128, (2, heads[0], 5)).astype(np.int8)
    k = rng.integers(-127, 128, (6, heads[1], 5)).astype(np.int8)
    scores = steps.estimate(q, k)
    group = heads[0] // heads[1]
    assert scores[1, heads[0] - 1, 4] == int(q[1, -1].astype(int) @ k[4, (heads[0] - 1) // group].astype(int))
