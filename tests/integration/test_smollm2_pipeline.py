"""The real model in the pipeline: the same bits as one stage after the other, and how far from the fused executor."""

from pathlib import Path

import numpy as np
import pytest
from smollm2 import held_out_text

from shadowattn.models.bundle import read_manifest
from shadowattn.runtime import Session
from shadowattn.runtime.measure.comparison import difference
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.text.tokenizer import BundleTokenizer

pytestmark = pytest.mark.slow
MOST_KL = 0.05  # nats, mean over the ends of chunks


def chunk_ends(session: Session, tokens: list[int]) -> np.ndarray:
    """Logits float32 [chunks,vocab] after the last token of every chunk."""
    chunk = session.manifest.prefill_chunks[-1]
    return np.stack([session.prefill(tokens[start : start + chunk]) for start in range(0, len(tokens), chunk)])


@pytest.mark.parametrize("length", [2048, 4096])
def test_overlap_changes_no_bit_and_coarse_scores_little(int8_bundle: Path, length: int) -> None:
    tokenizer = BundleTokenizer.open(int8_bundle, read_manifest(int8_bundle))
    tokens = tokenizer.encode(held_out_text())[:length]
    assert len(tokens) == length
    with Session.open(int8_bundle) as fused:
        reference = chunk_ends(fused, tokens)
    one_by_one = PipelineOptions(planner="off", heads=(1,))
    with Session.open(int8_bundle, executor="pipelined", pipeline=one_by_one, num_threads=1) as session:
        wanted = chunk_ends(session, tokens)
    with Session.open(int8_bundle, executor="pipelined", num_threads=2) as session:
        assert session.pipelined.overlaps
        found = chunk_ends(session, tokens)
        assert sum(chunk.launches for chunk in session.pipelined.record.chunks) > 0
    assert np.array_equal(found, wanted)
    kl = difference(reference, found).kl_mean
    print(f"{length} tokens: KL(fused, pipelined) {kl:.4f} nats")
    assert 0 < kl < MOST_KL
