"""The fused op in LiteRT against the NumPy oracle on every ISA level: shadow, shadow_paper, float_estimate, dense."""

from pathlib import Path

import numpy as np
import pytest
from one_op import LEVELS, Rows, Sizes, feed, open_op, oracle, plan_for

from shadowattn.models.oracle import steps
from shadowattn.models.oracle.shadow import Chunk, ShadowRule, shadow_attention
from shadowattn.models.oracle.steps import SelectRule

SEED = 20261121
RULES = [ShadowRule(min_k=8), ShadowRule(min_k=8, compensate=False), SelectRule(0.2, 8, 4, 16)]
RULE_NAMES = ["shadow", "no compensate", "shadow_paper"]


def random_text(n: int, sizes: Sizes, seed: int = SEED) -> Rows:
    """q [n,H,d], k and v [n,N_kv,d], with a centre and an outlier channel in k, as real keys have."""
    print("seed", seed)
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(n, sizes.num_heads, sizes.head_dim)) * 2
    k = rng.normal(size=(n, sizes.num_kv_heads, sizes.head_dim)) + rng.normal(size=(1, 1, sizes.head_dim)) * 3
    v = rng.normal(size=(n, sizes.num_kv_heads, sizes.head_dim))
    return q.astype(np.float32), k.astype(np.float32), v.astype(np.float32)


def check(text: Rows, sizes: Sizes, rule: SelectRule | ShadowRule, folder: Path, **options: object) -> np.ndarray:
    """Runs the text through the op and compares its last rows (at most 40) with the oracle. Returns the op's rows."""
    plan = plan_for(text[1], sizes.num_heads)
    out = feed(open_op(sizes, plan, rule, folder, **options), *text)
    last = min(len(out), 40)
    expected = oracle(text, plan, rule, sizes.softmax_scale, last)
    # A float32 sum of n products: a few ulp of the largest value that enters it.
    tolerance = 64 * np.finfo(np.float32).eps * np.abs(text[2]).max()
    np.testing.assert_allclose(out[-last:], expected, rtol=0, atol=tolerance)
    return out


@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize("rule", RULES, ids=RULE_NAMES)
@pytest.mark.parametrize(
    ("sizes", "n"),
    [
        pytest.param(Sizes(1), 70, marks=pytest.mark.arm),
        pytest.param(Sizes(7, 5, 1, 40), 64, marks=pytest.mark.arm),
        pytest.param(Sizes(16, 2, 2, 128), 65, marks=pytest.mark.arm),
        pytest.param(Sizes(63, 9, 3, 64), 200, marks=pytest.mark.arm),
        (Sizes(64, 4, 4, 8), 1000),
        pytest.param(Sizes(65, 3, 1, 80), 131, marks=pytest.mark.arm),
        (Sizes(130, 6, 2, 64), 700),
        (Sizes(130, 3, 1, 64), 5000),
    ],
    ids=str,
)
def test_random_texts(sizes: Sizes, n: int, rule: SelectRule | ShadowRule, isa: str, tmp_path: Path) -> None:
    check(random_text(n, sizes), sizes, rule, tmp_path, isa=isa)


@pytest.mark.arm
@pytest.mark.parametrize("time", [*range(1, 20), 31, 32, 33, 63, 64, 65, 127, 128, 129, 130])
@pytest.mark.parametrize("rule", [ShadowRule(min_k=2), SelectRule(0.3, 2, 1, 2)], ids=["shadow", "shadow_paper"])
def test_every_chunk_length(time: int, rule: SelectRule | ShadowRule, tmp_path: Path) -> None:
    sizes = Sizes(time, 2, 1, 24)
    check(random_text(2 * time + 3, sizes), sizes, rule, tmp_path)


@pytest.mark.arm
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 62, 63, 64, 65, 66, 127, 128, 129, 192, 193])
@pytest.mark.parametrize("min_k", [1, 64, 65])
def test_around_the_edge_of_a_page(n: int, min_k: int, tmp_path: Path) -> None:
    sizes = Sizes(8)
    check(random_text(n, sizes), sizes, ShadowRule(threshold=0.2, min_k=min_k, sinks=0, latest=0), tmp_path)


@pytest.mark.parametrize("keep_ratio", [1e-6, 0.01, 0.1, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("forced", [(0, 0), (4, 16), (300, 300)])
@pytest.mark.parametrize("kind", [ShadowRule, SelectRule])
def test_from_one_token_to_all(
    kind: type[SelectRule] | type[ShadowRule], keep_ratio: float, forced: tuple[int, int], tmp_path: Path
) -> None:
    sizes = Sizes(32)
    check(random_text(400, sizes), sizes, kind(keep_ratio, 1, *forced), tmp_path)


@pytest.mark.parametrize("threshold", [1e-9, 1e-4, 0.01, 0.3, 0.99])
@pytest.mark.parametrize("compensate", [True, False])
def test_a_threshold_goes_before_the_keep_ratio(threshold: float, compensate: bool, tmp_path: Path) -> None:
    sizes = Sizes(32)
    rule = ShadowRule(keep_ratio=0.3, min_k=1, threshold=threshold, compensate=compensate)
    check(random_text(400, sizes), sizes, rule, tmp_path)


@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize("keep_ratio", [None, 0.02, pytest.param(0.05, marks=pytest.mark.arm), 0.1337, 0.7])
def test_exactly_the_same_positions_are_kept(isa: str, keep_ratio: float | None, tmp_path: Path) -> None:
    """Counted over every row: a weight on the wrong side of the threshold in one of them would show."""
    sizes, rule = Sizes(50), ShadowRule(keep_ratio=keep_ratio, min_k=20)
    q, k, v = random_text(400, sizes)
    plan = plan_for(k, sizes.num_heads)
    op = open_op(sizes, plan, rule, tmp_path, isa=isa)
    feed(op, q, k, v)
    kept = shadow_attention(Chunk(q, k, v, plan, sizes.softmax_scale), rule).selected
    stats = op.stats()
    assert (stats.value_rows_read, stats.rows_not_compensated) == (kept.sum(), 0)
    assert kept.sum() < stats.causal_rows / 2 or keep_ratio == 0.7


@pytest.mark.arm
@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize(
    "rule", [*RULES, ShadowRule(threshold=0.5, min_k=1, sinks=0, latest=0)], ids=[*RULE_NAMES, "0.5"]
)
def test_equal_scores(isa: str, rule: SelectRule | ShadowRule, tmp_path: Path) -> None:
    sizes = Sizes(16)
    q, k, v = random_text(200, sizes)
    k[:] = k[:1]
    check((q, k, v), sizes, rule, tmp_path, isa=isa)
    q[:] = 0
    check((q, k, v), sizes, rule, tmp_path, isa=isa)


@pytest.mark.arm
@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize("mode", ["shadow", "int8"])
@pytest.mark.parametrize("above", [60.0, 90.0, 3000.0])
def test_a_score_far_above_those_of_the_first_page(mode: str, isa: str, above: float, tmp_path: Path) -> None:
    """Weights are relative to the best of the first page until that would overflow (e^69): then to the best of all."""
    sizes, rule = Sizes(32), ShadowRule(threshold=0.3, min_k=1)
    q, k, v = random_text(200, sizes)
    k[100] = 0
    k[100, :, 0] = above / sizes.softmax_scale / 4
    q[:, :, 0] = 4
    plan = plan_for(k, sizes.num_heads)
    out = feed(open_op(sizes, plan, rule, tmp_path, mode=mode, isa=isa), q, k, v)
    # That position's value alone, as stored: in binary16, and in mode int8 in 127 steps of its channel's largest.
    rounding = np.abs(v).max() * (2.0**-11 if mode == "shadow" else 0.5 / 127 + 2.0**-11)
    assert np.abs(out[110:].reshape(90, sizes.num_heads, -1) - np.repeat(v[100], 2, axis=0)).max() <= 1.01 * rounding
    assert np.isfinite(out).all()


@pytest.mark.arm
@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize("rule", RULES, ids=RULE_NAMES)
def test_one_huge_outlier(isa: str, rule: SelectRule | ShadowRule, tmp_path: Path) -> None:
    sizes = Sizes(16)
    q, k, v = random_text(300, sizes)
    k[150, 0, 3] = 3e4
    v[20] = 1e6
    check((q, k, v), sizes, rule, tmp_path, isa=isa)


def with_sink(n: int, sizes: Sizes, share: float) -> Rows:
    """A text whose first position takes (nearly) all of every row's mass; `share` is how strongly."""
    q, k, v = random_text(n, sizes)
    q[..., 0] = 8
    k[..., 0] = -20 * share
    k[0, :, 0] = 60 * share
    return q, k, v


@pytest.mark.arm
@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize("share", [1.0, 30.0])
@pytest.mark.parametrize("sinks", [0, 1])
@pytest.mark.parametrize("compensate", [True, False])
def test_everything_on_the_sink(isa: str, share: float, sinks: int, compensate: bool, tmp_path: Path) -> None:
    """At share 30 the weights of all others underflow to zero."""
    sizes, rule = Sizes(16), ShadowRule(min_k=1, sinks=sinks, compensate=compensate)
    text = with_sink(300, sizes, share)
    out = check(text, sizes, rule, tmp_path, isa=isa)
    if share == 30.0:
        first = np.repeat(text[2][0], sizes.num_heads // sizes.num_kv_heads, axis=0).reshape(-1)
        np.testing.assert_allclose(out[-1], first, rtol=1e-6)


@pytest.mark.arm
@pytest.mark.parametrize("isa", LEVELS)
def test_a_row_that_keeps_nothing_of_weight(isa: str, tmp_path: Path) -> None:
    """Equal heavy positions stay below the threshold, and the weight of the row's own underflows: without
    compensation there is nothing to average, and the output is zero, not NaN."""
    sizes, rule = Sizes(16), ShadowRule(threshold=0.9, min_k=16, sinks=0, latest=1, compensate=False)
    q, k, v = random_text(100, sizes)
    q[...] = 1
    k[...] = -100
    k[3:6] = 100
    out = check((q, k, v), sizes, rule, tmp_path, isa=isa)
    assert not out[20:].any()
    assert check((q, k, v), sizes, ShadowRule(threshold=0.9, min_k=16, sinks=0, latest=1), tmp_path, isa=isa)[20:].any()


def test_factor_zero_reads_all_and_infinity_puts_out_nothing(tmp_path: Path) -> None:
    sizes, rule = Sizes(20), ShadowRule(min_k=1)
    q, k, v = random_text(200, sizes)
    plan = plan_for(k, sizes.num_heads)
    op = open_op(sizes, plan, rule, tmp_path)
    factors = np.array([0, np.inf, 1, 1e31], np.float32)
    op.caches.set_factors(0, factors[None])
    out = feed(op, q, k, v).reshape(200, 4, sizes.head_dim)
    chunk = Chunk(q, k, v, plan, sizes.softmax_scale, factors=factors)
    wanted = shadow_attention(chunk, rule)
    np.testing.assert_allclose(out.reshape(200, -1), wanted.out, rtol=0, atol=3e-5)
    assert op.stats().value_rows_read == wanted.selected.sum()
    assert not out[:, [1, 3]].any()
    assert (wanted.selected[:, 0] == np.arange(1, 201)).all()
    op.caches.set_factors(0, None)
    own = shadow_attention(Chunk(q, k, v, plan, sizes.softmax_scale), rule)
    np.testing.assert_allclose(feed(op, q, k, v), own.out, rtol=0, atol=3e-5)


@pytest.mark.parametrize("factors", [np.ones((1, 3)), np.ones((2, 4)), np.full((1, 4), -1.0), np.full((1, 4), np.nan)])
def test_factors_that_are_refused(factors: np.ndarray, tmp_path: Path) -> None:
    text = random_text(20, Sizes(20))
    op = open_op(Sizes(20), plan_for(text[1], 4), ShadowRule(), tmp_path)
    with pytest.raises(ValueError, match="threshold factor"):
        op.caches.set_factors(0, factors)
    with pytest.raises(ValueError, match="cache 5"):
        op.caches.set_factors(5, np.ones((1, 4)))


@pytest.mark.arm
@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize(("sizes", "n"), [(Sizes(1), 70), (Sizes(63, 3, 1, 40), 130)], ids=str)
def test_dense(sizes: Sizes, n: int, isa: str, tmp_path: Path) -> None:
    check(random_text(n, sizes), sizes, SelectRule(1.0), tmp_path, mode="dense", isa=isa)


@pytest.mark.arm
@pytest.mark.parametrize("isa", LEVELS)
def test_float_estimate(isa: str, tmp_path: Path) -> None:
    """Ranked by the float32 scores: their rounding may swap neighbours in rank, so few rows may differ, by little."""
    sizes, rule = Sizes(50), SelectRule(0.1, 8, 1, 4)
    q, k, v = random_text(400, sizes)
    op = open_op(sizes, plan_for(k, 4), rule, tmp_path, mode="float_estimate", isa=isa)
    out = feed(op, q, k, v)
    wanted = steps.sparse_attention(q, k, v, steps.score_exactly(q, k, sizes.softmax_scale), rule, sizes.softmax_scale)
    error = np.abs(out - wanted).reshape(400, 4, -1).max(axis=-1)
    assert (error < 3e-5).mean() > 0.995
    assert error.max() < 0.1
    assert op.stats().value_rows_read == 4 * sum(rule.k(n) for n in range(1, 401))


def test_the_very_end_of_a_cache(tmp_path: Path) -> None:
    sizes = Sizes(32)
    text = random_text(301, sizes)
    check(text, sizes, ShadowRule(), tmp_path, max_length=301)
    plan = plan_for(text[1], sizes.num_heads)
    op = open_op(sizes, plan, ShadowRule(), tmp_path, max_length=300)
    with pytest.raises(RuntimeError, match="full"):
        feed(op, *text)


@pytest.mark.arm
def test_two_threads_give_the_same_bits(tmp_path: Path) -> None:
    sizes = Sizes(100, 9, 3, 64)
    text = random_text(1000, sizes)
    plan = plan_for(text[1], sizes.num_heads)
    one, two = (feed(open_op(sizes, plan, ShadowRule(), tmp_path, num_threads=n), *text) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("mode", ["dense", "shadow", "shadow_paper", "float_estimate"])
def test_any_chunking_gives_the_same_bits(mode: str, tmp_path: Path) -> None:
    text = random_text(333, Sizes(1, 6, 2, 64))
    plan = plan_for(text[1], 6)
    outputs = [
        feed(open_op(Sizes(time, 6, 2, 64), plan, ShadowRule(), tmp_path, mode=mode, cache_type="f16"), *text)
        for time in (1, 17, 64, 333)
    ]
    for other in outputs[1:]:
        np.testing.assert_array_equal(outputs[0], other)
