"""Pages that a row does not score, in LiteRT against the NumPy oracle, on every ISA level there is."""

from pathlib import Path

import numpy as np
import pytest
from one_op import LEVELS, OneOp, Rows, Sizes, feed, open_op, plan_for

from shadowattn.models.oracle.shadow import Chunk, ShadowResult, ShadowRule, replay, shadow_attention
from shadowattn.models.oracle.skipping import BLOCK, FEWEST_PAGES
from shadowattn.models.oracle.steps import PAGE

SEED = 20261122


def uneven_text(n: int, sizes: Sizes) -> Rows:
    """q [n,H,d], k and v [n,N_kv,d]; pages differ in how large their keys are, so that bounds tell them apart."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    q, k, v = (
        rng.normal(size=(n, heads, sizes.head_dim)).astype(np.float32)
        for heads in (sizes.num_heads, sizes.num_kv_heads, sizes.num_kv_heads)
    )
    of_page = rng.uniform(0.05, 1.5, (-(-n // PAGE), 1, 1)).astype(np.float32)
    return 2 * q, k * np.repeat(of_page, PAGE, axis=0)[:n], v


def last_chunk(op: OneOp, text: Rows, rule: ShadowRule) -> tuple[np.ndarray, ShadowResult]:
    """The whole text, and its last chunk once more with the counts from nothing: the op's rows, and the oracle's."""
    sizes, n = op.sizes, len(text[0])
    start = (n - 1) // sizes.time * sizes.time
    feed(op, *text)
    op.caches.reset_cache_stats(0)
    out = feed(op, *(part[start:] for part in text), position=start)
    plan = plan_for(text[1], sizes.num_heads)
    margins = replay(Chunk(*(part[:start] for part in text), plan, sizes.softmax_scale), rule)
    chunk = Chunk(text[0][start:], text[1], text[2], plan, sizes.softmax_scale)
    return out, shadow_attention(chunk, rule, margins=margins)


@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize(
    ("max_skipped_mass", "forced"),
    [(0.0, (1, 1)), (1e-9, (1, 1)), (0.1, (1, 1)), (0.3, (0, 0)), (0.2, (70, 200))],
    ids=str,
)
def test_pages_that_are_not_scored(isa: str, max_skipped_mass: float, forced: tuple[int, int], tmp_path: Path) -> None:
    """Which pages a row scores, what it keeps of them and what it puts out; into the second block of bounds."""
    sizes, rule = Sizes(48, 4, 2, 20), ShadowRule(0.02, 8, *forced, max_skipped_mass=max_skipped_mass)
    text = uneven_text(66 * PAGE + 5, sizes)
    op = open_op(sizes, plan_for(text[1], sizes.num_heads), rule, tmp_path, isa=isa)
    out, expected = last_chunk(op, text, rule)
    tolerance = 64 * np.finfo(np.float32).eps * np.abs(text[2]).max()
    np.testing.assert_allclose(out, expected.out, rtol=0, atol=tolerance)
    stats = op.stats()
    assert (stats.value_rows_read, stats.pages_scored) == (expected.selected.sum(), expected.pages_scored)
    assert (stats.pages_scored < 0.9 * stats.pages) == (max_skipped_mass > 1e-3)


NOTED = FEWEST_PAGES * PAGE + BLOCK  # from here on rows know what others noted


@pytest.mark.parametrize("n", [FEWEST_PAGES * PAGE - 1, FEWEST_PAGES * PAGE, NOTED - 1, NOTED, NOTED + 7], ids=str)
def test_short_rows_score_every_page(n: int, tmp_path: Path) -> None:
    sizes, rule = Sizes(32, 2, 1, 16), ShadowRule(0.02, 8, max_skipped_mass=0.9)
    text = uneven_text(n, sizes)
    op = open_op(sizes, plan_for(text[1], sizes.num_heads), rule, tmp_path)
    out, expected = last_chunk(op, text, rule)
    np.testing.assert_allclose(out, expected.out, rtol=0, atol=1e-4)
    stats = op.stats()
    assert stats.pages_scored == expected.pages_scored
    assert (stats.pages_scored == stats.pages) == (n <= NOTED)


@pytest.mark.arm
@pytest.mark.parametrize("isa", LEVELS)
def test_weights_made_again_are_of_scored_pages_only(isa: str, tmp_path: Path) -> None:
    """A page far better than the first, where the sums overflow; zero queries, whose bounds are all equal."""
    sizes, rule = Sizes(32, 2, 1, 16), ShadowRule(0.02, 8, max_skipped_mass=0.3)
    q, k, v = uneven_text(26 * PAGE, sizes)
    k[9 * PAGE + 5] = 60.0
    q[-20:] = np.abs(q[-20:]) * 20
    q[-3:] = 0
    op = open_op(sizes, plan_for(k, sizes.num_heads), rule, tmp_path, isa=isa)
    out, expected = last_chunk(op, (q, k, v), rule)
    np.testing.assert_allclose(out, expected.out, rtol=0, atol=1e-4)
    assert (op.stats().value_rows_read, op.stats().pages_scored) == (expected.selected.sum(), expected.pages_scored)


def test_any_chunking_and_rewind_gives_the_same_bits(tmp_path: Path) -> None:
    """Bounds are made when a page is full, whoever filled it."""
    rule = ShadowRule(0.02, 8, max_skipped_mass=0.3)
    outputs = []
    for time in (300, 17):
        sizes = Sizes(time, 2, 1, 16)
        text = uneven_text(26 * PAGE, sizes)
        op = open_op(sizes, plan_for(text[1], 2), rule, tmp_path)
        if time == 17:
            feed(op, *(part[::-1].copy() for part in text))  # other rows, which the next overwrite
        outputs.append(feed(op, *text))
    assert np.array_equal(*outputs)
