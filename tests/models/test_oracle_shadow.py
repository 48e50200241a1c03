"""The oracle of mode shadow itself, against sentences of docs/algorithm.md that can be checked by hand."""

import dataclasses

import numpy as np
import pytest

from shadowattn.models.oracle import shadow
from shadowattn.models.oracle.shadow import Chunk, Scores, ShadowRule, shadow_attention
from shadowattn.models.oracle.steps import attend
from shadowattn.models.plan import Plan

SEED = 20261121


def a_chunk(time: int, length: int, spread: float = 2.0, **changes: object) -> Chunk:
    """2 query heads on 1 KV head, head_dim 8; a plan that fits."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    q = (spread * rng.normal(size=(time, 2, 8))).astype(np.float32)
    k, v = (rng.normal(size=(length, 1, 8)).astype(np.float32) for _ in range(2))
    zeros = np.zeros((1, 1, 8), np.float32)
    plan = Plan.uniform(2, zeros, np.full((1, 1), 4 / 127, np.float32), zeros + 1000, 1 / 256)
    return dataclasses.replace(Chunk(q, k, v, plan, 0.35), **changes)


def test_float32_weights_are_nearly_the_exact_ones() -> None:
    rng = np.random.default_rng(SEED)
    scores = rng.integers(-100_000, 100_000, 5000)
    scores[4000] = 130_000  # far above the last page
    own = (len(scores) - 1) % shadow.PAGE + 1
    for step in (0.0, 1e-6, 1e-4, 1e-2):
        weights = shadow.softmax_weights32(scores, np.float32(step))
        logits = float(np.float32(step)) * scores
        with np.errstate(over="ignore"):
            far = np.exp(logits - logits[-own:].max()).sum() > 2.0**100
        exact = np.exp(logits - (logits if far else logits[-own:]).max())
        assert far == (step == 1e-2)  # both cases are met
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, exact, rtol=2.65e-3 + 4e-6, atol=2e-38 * 2)
        assert not weights[exact < 2.0**-126.1].any()
        rising = np.diff(weights[np.argsort(scores)])
        assert (rising >= -4e-6 * np.sort(weights)[1:]).all()  # no larger score has a smaller weight


@pytest.mark.parametrize("n", [1, 15, 16, 17, 100, 1024, 5000])
@pytest.mark.parametrize("skip", [0, 1, 16, 17, 9999])
def test_the_mass_is_the_sum_behind_the_sinks(n: int, skip: int) -> None:
    weights = np.random.default_rng(n).uniform(0, 1, n).astype(np.float32)
    wanted = weights[skip:].astype(np.float64).sum()
    assert shadow.mass32(weights, min(skip, n)) == pytest.approx(wanted, rel=1e-6)


def kept(logits: list[float], threshold: float, **rule: int) -> list[int]:
    """Positions selected of a row with these logits."""
    scores = Scores(np.rint(np.array(logits) * 1e6).astype(np.int64), np.float32(1e-6), coarse=False)
    chosen = shadow.select_by_threshold(scores, np.float32(threshold), ShadowRule(**rule))
    return np.flatnonzero(chosen).tolist()


def test_kept_are_those_above_a_share_of_the_mass() -> None:
    logits = np.log([8, 4, 2, 1, 1]).tolist()  # probabilities 1/2, 1/4, 1/8, 1/16, 1/16
    assert kept(logits, 0.2, sinks=0, latest=1) == [0, 1, 4]
    assert kept(logits, 0.1, sinks=0, latest=1) == [0, 1, 2, 4]
    assert kept(logits, 0.9, sinks=0, latest=0) == [4]  # the row's own, whatever latest says
    assert kept(logits, 0.9, sinks=2, latest=2) == [0, 1, 3, 4]
    assert kept(logits, 0.2, sinks=1, latest=1) == [0, 1, 2, 4]  # of what is left beside the sink: 1/2, 1/4, 1/8, 1/8
    assert kept(logits, 0.9, sinks=50, latest=50) == [0, 1, 2, 3, 4]


def test_no_row_keeps_more_than_the_threshold_allows() -> None:
    chunk = a_chunk(100, 1000)
    for threshold in (0.5, 0.1, 0.01):
        result = shadow_attention(chunk, ShadowRule(threshold=threshold))
        assert result.selected.max() <= 1 / threshold + 1 + 4


def test_a_tail_of_a_page_is_its_mean_and_that_of_the_kept() -> None:
    values = np.arange(70.0)[:, None]
    rest = np.zeros(70)
    rest[[3, 10]] = 0.25
    rest[69] = 0.5
    takes = np.zeros(70, bool)
    total, mass = shadow.residual_of(rest, takes, values)
    assert mass == 1
    assert total == 0.5 * values[:64].mean() + 0.5 * values[64:].mean()  # 6 positions are all that is visible there
    takes[[5, 6]] = True
    total, mass = shadow.residual_of(rest, takes, values)
    assert mass == 1
    assert total == 0.5 * (0.75 * values[:64].mean() + 0.25 * 5.5) + 0.5 * values[64:].mean()


def test_keeping_all_is_dense_up_to_int8() -> None:
    chunk = a_chunk(5, 300)
    result = shadow_attention(chunk, ShadowRule(threshold=1e-30))
    assert (result.selected == np.array([[296 + t] * 2 for t in range(5)])).all()
    dense = [attend(chunk.q[t, h], chunk.keys[: 296 + t, 0], chunk.values[: 296 + t, 0], 0.35) for t, h in all_rows(5)]
    error = np.abs(result.out.reshape(10, 8) - dense).max()
    assert 1e-6 < error < 0.05


def test_the_tail_helps() -> None:
    chunk = a_chunk(20, 600, spread=1.0)
    dense = np.array([attend(chunk.q[t, h], *_seen(chunk, t), 0.35) for t, h in all_rows(20)])
    errors = [
        np.abs(
            shadow_attention(chunk, ShadowRule(threshold=0.01, compensate=compensate)).out.reshape(40, 8) - dense
        ).mean()
        for compensate in (True, False)
    ]
    assert errors[0] < 0.5 * errors[1]


def _seen(chunk: Chunk, t: int) -> tuple[np.ndarray, np.ndarray]:
    return chunk.keys[: chunk.length(t), 0], chunk.values[: chunk.length(t), 0]


def all_rows(time: int) -> list[tuple[int, int]]:
    return [(t, h) for t in range(time) for h in range(2)]


def test_short_rows_read_everything_exactly() -> None:
    chunk = a_chunk(70, 70)
    result = shadow_attention(chunk, ShadowRule(threshold=0.3, min_k=64))
    assert (result.selected[:64, 0] == np.arange(1, 65)).all()
    assert (result.selected[64:] < 20).all()
    np.testing.assert_allclose(result.out[63, :8], attend(chunk.q[63, 0], *_seen(chunk, 63), 0.35), rtol=1e-12)


def test_coarse_scores_that_agree_with_the_logits_give_the_same_tail() -> None:
    """Exact weights of the kept, and the rest scaled to them: scores in proportion to the logits change nothing."""
    chunk = a_chunk(3, 200, spread=0.5)
    fused = shadow_attention(chunk, ShadowRule(threshold=0.02))
    scores = coarse(chunk)
    split = shadow_attention(chunk, ShadowRule(threshold=0.02), scores)
    assert split.rows_not_compensated == 0
    assert np.abs(split.out - fused.out).max() < 0.05
    scores[0, 1, 5] = 127
    clipped = shadow_attention(chunk, ShadowRule(threshold=0.02), scores)
    assert clipped.rows_not_compensated == 1
    assert shadow_attention(chunk, ShadowRule(threshold=0.02, compensate=False), scores).rows_not_compensated == 0
    scores[:] = coarse(chunk)
    large = dataclasses.replace(chunk, q=chunk.q * 40)  # a step of the same scores is now worth 40 times as much
    assert shadow_attention(large, ShadowRule(threshold=0.02), scores).rows_not_compensated == 6


def coarse(chunk: Chunk) -> np.ndarray:
    """What an estimate graph without rounding of its inputs would say: int [T,H,S]."""
    scores = np.zeros((len(chunk.q), 2, len(chunk.keys)), int)
    logits = 0.35 * np.einsum("thd,sd->ths", chunk.q.astype(float), chunk.keys[:, 0].astype(float))
    for t, h in all_rows(len(chunk.q)):
        step = shadow.row_scores(chunk, t, h, scores, coarse=True).step
        scores[t, h] = np.clip(np.rint(logits[t, h] / float(step)), -128, 126)
    return scores


@pytest.mark.parametrize(
    ("rule", "length", "threshold"),
    [
        (ShadowRule(), 100, 1 / 512),
        (ShadowRule(), 2048, 1 / 512),
        (ShadowRule(), 102_400, 1 / 512 / 50),
        (ShadowRule(keep_ratio=0.1, threshold=0.25), 100, 0.25),
        (ShadowRule(keep_ratio=0.1), 1000, 1 / 401),
        (ShadowRule(keep_ratio=0.1), 81_920, 1 / (10 * (1 + 4 * 819.2))),
    ],
)
def test_which_threshold(rule: ShadowRule, length: int, threshold: float) -> None:
    assert rule.threshold_at(a_chunk(1, 1).plan, length) == pytest.approx(threshold, rel=1e-6)


def test_factors_of_heads() -> None:
    factors = np.array([0, np.inf], np.float32)
    chunk = a_chunk(4, 100, factors=factors)
    result = shadow_attention(chunk, ShadowRule(threshold=0.3))
    assert result.selected[:, 0].tolist() == [97, 98, 99, 100]
    assert not result.out[:, 8:].any()
    assert result.out[:, :8].all()
