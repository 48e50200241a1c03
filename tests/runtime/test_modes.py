"""Every mode in a session: both executors, and what each promises of the other."""

from pathlib import Path

import numpy as np
import pytest

from shadowattn.models.bundle import read_manifest
from shadowattn.runtime import Session
from shadowattn.runtime.session.modes import MODES

NEEDS_RANGES = "npu_full"  # the tiny bundle is not calibrated
TOKENS = [3 + 7 * i % 90 for i in range(117)]


def logits(bundle: Path, mode: str, executor: str) -> np.ndarray:
    with Session.open(bundle, mode=mode, executor=executor, num_threads=1, min_k=8) as session:
        first = session.prefill(TOKENS)
        return np.stack([first, session.decode(5)])


@pytest.mark.arm
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != NEEDS_RANGES])
def test_both_executors_run_every_mode(tiny: Path, mode: str) -> None:
    fused, split = (logits(tiny, mode, executor) for executor in ("fused", "pipelined"))
    assert fused.shape == (2, read_manifest(tiny).model.vocab_size)
    assert np.isfinite(fused).all()
    if mode in ("shadow", "shadow_paper"):  # chosen by other scores
        assert np.abs(fused - split).max() < 0.5 * np.abs(fused).max()
    else:
        np.testing.assert_array_equal(fused, split)


def test_a_mode_without_its_ranges_says_what_to_do(tiny: Path) -> None:
    with (
        Session.open(tiny, mode=NEEDS_RANGES, num_threads=1) as session,
        pytest.raises(RuntimeError, match="shadowattn calibrate"),
    ):
        session.prefill(TOKENS)
