"""llama.cpp through the C bindings of llama-cpp-python: Q8_0 weights, flash attention, FP16 cache, 512 rows at once."""

from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np
from peers import worker
from peers.files import GGUF_Q8_0

_ROWS_AT_ONCE = 512
_FLASH_ATTENTION = 1  # of enum llama_flash_attn_type


class LlamaCppModel:
    """The whole prompt is one batch."""

    def __init__(self, request: worker.Request, length: int) -> None:
        self._log = llama_cpp.llama_log_callback(lambda *_: None)  # kept: the library calls it later
        llama_cpp.llama_log_set(self._log, None)
        llama_cpp.llama_backend_init()
        path = str(request.folder / GGUF_Q8_0)
        self._model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not self._model:
            raise ValueError(f"{path}: wanted a GGUF file that llama.cpp can load")
        room = length + request.decode_tokens + 1
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = room, room, _ROWS_AT_ONCE
        params.n_threads = params.n_threads_batch = request.num_threads
        params.flash_attn_type = _FLASH_ATTENTION
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        self._vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._past = 0

    def run(self, ids: Sequence[int], decode_tokens: int) -> worker.Run:
        return worker.run_steps(self, ids, decode_tokens)

    def prefill(self, ids: Sequence[int]) -> int:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        self._past = 0
        return self._step(ids)

    def decode(self, token: int) -> int:
        return self._step([token])

    def facts(self) -> dict[str, Any]:
        said = llama_cpp.llama_print_system_info().decode()
        return {"version": worker.versions("llama_cpp_python"), "isa": " ".join(said.replace("|", ",").split())}

    def _step(self, ids: Sequence[int]) -> int:
        """The likeliest token after the last of ids; no other row's logits are computed."""
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for index, token in enumerate(ids):
            batch.token[index], batch.pos[index], batch.n_seq_id[index] = token, self._past + index, 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = index == len(ids) - 1
        status = llama_cpp.llama_decode(self._context, batch)
        llama_cpp.llama_batch_free(batch)
        if status:
            raise RuntimeError(f"llama_decode returned {status}")
        self._past += len(ids)
        return int(np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._context), (1, self._vocab)).argmax())


def open_model(request: worker.Request, length: int) -> worker.Model:
    return LlamaCppModel(request, length)
