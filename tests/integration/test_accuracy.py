"""The short form of docs/accuracy.md: on text that nothing was fitted to, ours loses less than the others do."""

from pathlib import Path
from typing import Any

import pytest

from shadowattn.runtime.evaluate.evaluation import evaluate
from shadowattn.runtime.evaluate.options import EvalOptions

pytestmark = pytest.mark.slow
MODES = ("int8", "npu_full", "shadow@0.05", "shadow:uncompensated@0.05", "shadow_paper@0.05", "block_sparse@0.05")


@pytest.fixture(scope="module")
def rows(int8_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    import _pydecimal

    options = EvalOptions(modes=MODES, texts=(_pydecimal.__file__,), window=2048, max_tokens=4096, skip_tokens=6000)
    found = evaluate(int8_bundle, options)["rows"]
    return {row["mode"]: row for row in found}


def test_ours_loses_least(rows: dict[str, dict[str, Any]]) -> None:
    """By KL divergence, which moves less from text to text than perplexity."""
    ours = rows["shadow"]["kl_mean"]
    for other in ("shadow:uncompensated", "shadow_paper", "block_sparse", "npu_full"):
        assert ours < 0.6 * rows[other]["kl_mean"], f"{other}: {rows[other]['kl_mean']:.4f}, ours {ours:.4f}"


def test_the_achieved_share_is_what_was_asked(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["shadow"]["mean_keep_ratio"] == pytest.approx(0.05, rel=0.35)
    assert rows["shadow:uncompensated"]["mean_keep_ratio"] == pytest.approx(rows["shadow"]["mean_keep_ratio"], rel=0.05)


def test_ours_and_int8_are_close_to_dense(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["int8"]["change_percent"] < 0.2 + 2 * rows["int8"]["loss_change_stderr"]
    assert rows["shadow"]["change_percent"] < 1.0 + 2 * rows["shadow"]["loss_change_stderr"]
