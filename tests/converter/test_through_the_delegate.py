"""Every family end to end: converted, run by LiteRT and the delegate through a Session, against transformers."""

import numpy as np
import pytest
from tiny_models import CHUNK, FAMILIES, SEED, VOCAB

from shadowattn.runtime import Session

DECODE_STEPS = 20


@pytest.mark.parametrize("executor", ["fused", "pipelined"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_transformers_at_every_prompt_length(family, executor, tiny_bundle):
    model, path = tiny_bundle(family)
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    with Session.open(path, keep_ratio=1.0, cache_type="f32", executor=executor) as session:
        for length in (1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5):
            tokens = rng.integers(0, VOCAB, length + DECODE_STEPS)
            expected = model.logits(tokens)
            session.reset()
            logits = [session.prefill(tokens[:length])] + [session.decode(int(token)) for token in tokens[length:]]
            difference = np.abs(np.array(logits) - expected[length - 1 :]).max()
            assert difference < 1e-4 * np.abs(expected).max(), f"prompt of {length} tokens"
        runners = {row.runner for row in session.node_assignments() if row.op.startswith("Shadow")}
        assert runners == ({"shadow"} if executor == "fused" else set())  # pipelined: calls between the graphs
