"""transformers on torch, float32, scaled_dot_product_attention: the answers that all others are compared with."""

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from peers import worker
from peers.files import HUGGING_FACE


class TransformersModel:
    def __init__(self, request: worker.Request) -> None:
        torch.set_num_threads(request.num_threads)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            request.folder / HUGGING_FACE, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        self._cache: Any = None

    def run(self, ids: Sequence[int], decode_tokens: int) -> worker.Run:
        return worker.run_steps(self, ids, decode_tokens)

    def prefill(self, ids: Sequence[int]) -> int:
        self._cache = None
        return self._step(ids)

    def decode(self, token: int) -> int:
        return self._step([token])

    def facts(self) -> dict[str, Any]:
        return {"version": worker.versions("torch", "transformers"), "isa": torch.backends.cpu.get_cpu_capability()}

    def _step(self, ids: Sequence[int]) -> int:
        with torch.inference_mode():
            rows = torch.tensor([ids])
            out = self._model(rows, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = out.past_key_values
        return int(out.logits[0, -1].argmax())


def open_model(request: worker.Request, length: int) -> worker.Model:
    return TransformersModel(request)
