"""LiteRT-LM on XNNPACK: exports of litert-torch with dynamic INT8 weights, the smallest cache that holds the prompt.

Its cache is static, and attention computes all of it. The first token comes out of a decode step, which TTFT holds.
"""

import time
from collections.abc import Sequence
from typing import Any

import litert_lm
from peers import worker
from peers.files import litert_lm_file


class LiteRtLmModel:
    """It takes text and gives text, which its own tokenizer turns from and into the token ids."""

    def __init__(self, request: worker.Request, length: int) -> None:
        litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
        path = litert_lm_file(request.folder, length + 1 + request.decode_tokens)
        self._cache = path.parent.name
        self._engine = litert_lm.Engine(str(path), litert_lm.Backend.CPU(thread_count=request.num_threads))

    def run(self, ids: Sequence[int], decode_tokens: int) -> worker.Run:
        text = self._engine.detokenize(list(ids))
        if self._engine.tokenize(text) != list(ids):
            raise ValueError(
                f"wanted {len(ids):,} tokens that the tokenizer makes of a text, got others; cut it elsewhere"
            )
        greedy = litert_lm.SamplerConfig(top_k=1)
        options = {"apply_prompt_template": False, "max_output_tokens": 1 + decode_tokens}
        with self._engine.create_session(sampler_config=greedy, **options) as session:
            begin = time.perf_counter()
            session.run_prefill([text])
            parts = session.run_decode_async()
            first = next(parts).texts[0]
            known = time.perf_counter()
            others = sum(1 for _ in parts)
            seconds = time.perf_counter() - known
        return worker.Run(self._token(first), known - begin, others / seconds if others else None)

    def facts(self) -> dict[str, Any]:
        return {"version": worker.versions("litert-lm"), "isa": None, "cache": self._cache}

    def _token(self, text: str) -> int | None:
        """None where the piece of text is not one token's."""
        ids = self._engine.tokenize(text)
        return ids[0] if len(ids) == 1 else None


def open_model(request: worker.Request, length: int) -> worker.Model:
    return LiteRtLmModel(request, length)
