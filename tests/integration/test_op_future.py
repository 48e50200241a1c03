"""No row may know what comes after it. The op sees keys and values of the future (in the row's page, in its tile), and
must not use them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from one_op import Rows, Sizes, feed, open_op, plan_for
from test_op_oracle import random_text

from shadowattn.models.oracle import shadow
from shadowattn.models.oracle.shadow import Chunk, ShadowRule, shadow_attention
from shadowattn.models.oracle.steps import PAGE

LENGTH = 150
SIZES = Sizes(LENGTH)  # the whole text in one chunk: all rows are in the cache before the first one attends
MODES = ["shadow", "shadow_paper", "float_estimate", "dense"]
right_residual = shadow.residual_of  # before a test replaces it


def another_future(text: Rows, row: int) -> Rows:
    """The same text up to and with `row`; other keys and values, far larger, after it."""
    changed = [array.copy() for array in text]
    for array in changed[1:]:
        array[row + 1 :] = array[row + 1 :][::-1] * -7 + 3
    return changed[0], changed[1], changed[2]


@pytest.mark.parametrize("row", [0, 1, 9, 62, 63, 64, 65, 100, 126, 127, 128, 148])
@pytest.mark.parametrize("mode", MODES)
def test_changing_the_future_changes_no_bit(mode: str, row: int, tmp_path: Path) -> None:
    text = random_text(LENGTH, SIZES)
    plan = plan_for(text[1], SIZES.num_heads)
    rule = ShadowRule(threshold=0.05, min_k=1)
    options = {} if mode == "shadow" else {"mode": mode, "threshold": 0}
    before, after = (
        feed(open_op(SIZES, plan, rule, tmp_path, **options), *rows) for rows in (text, another_future(text, row))
    )
    np.testing.assert_array_equal(before[: row + 1], after[: row + 1])
    assert np.abs(before[row + 1 :] - after[row + 1 :]).max() > 0.1


def test_a_mean_over_the_whole_page_would_be_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle with that very mistake is far from the op; the right one is not."""
    text = random_text(LENGTH, SIZES)
    plan = plan_for(text[1], SIZES.num_heads)
    rule = ShadowRule(threshold=0.05, min_k=1)
    out = feed(open_op(SIZES, plan, rule, tmp_path), *text)
    chunk = Chunk(*text, plan, SIZES.softmax_scale)
    assert np.abs(out - shadow_attention(chunk, rule).out).max() < 3e-5
    leaking = np.stack([_leaking_row(chunk, rule, t, monkeypatch) for t in range(LENGTH)])
    error = np.abs(out - leaking).max(axis=1)
    seen = np.arange(1, LENGTH + 1)
    same = (seen % PAGE == 0) | (seen == LENGTH) | (seen <= rule.sinks + rule.latest)
    assert error[same].max() < 3e-5  # there the page has no future, or nothing is left out
    assert np.median(error[~same]) > 1e-2
    assert (error[~same] > 1e-3).mean() > 0.9


def _leaking_row(chunk: Chunk, rule: ShadowRule, t: int, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Row t of an oracle whose page means take in the whole page."""
    end = min(-(-(t + 1) // PAGE) * PAGE, len(chunk.keys))
    row = dataclasses.replace(chunk, q=chunk.q[t : t + 1], keys=chunk.keys[: t + 1], values=chunk.values[: t + 1])
    heads = iter(range(chunk.q.shape[1]))

    def whole_page(rest: np.ndarray, takes: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
        future = np.zeros(end - len(rest), bool)
        seen = chunk.values[:end, chunk.kv_head(next(heads))]
        return right_residual(np.concatenate([rest, future]), np.concatenate([takes, future]), seen)

    monkeypatch.setattr(shadow, "residual_of", whole_page)
    return shadow_attention(row, rule).out[0]
