"""OpenVINO GenAI: paged attention with continuous batching, INT8 weights, float32 attention, the library's INT8 cache.

VARIANT: empty, or `xattention` for the library's block-sparse attention at its default threshold.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino
import openvino_genai
from peers import worker
from peers.files import OPENVINO

_CACHE_GB = 2
_THRESHOLD = 0.8  # the default of XAttention


class OpenVinoModel:
    """The whole prompt is one step of the scheduler; the library times itself."""

    def __init__(self, request: worker.Request, length: int) -> None:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.max_num_batched_tokens = max(256, length)
        scheduler.cache_size = _CACHE_GB
        scheduler.enable_prefix_caching = False
        if request.variant == "xattention":
            scheduler.sparse_attention_config.mode = openvino_genai.SparseAttentionMode.XATTENTION
            scheduler.sparse_attention_config.xattention_threshold = _THRESHOLD
            scheduler.use_sparse_attention = True
        options = {"INFERENCE_NUM_THREADS": request.num_threads, "INFERENCE_PRECISION_HINT": "f32"}
        self._pipeline = openvino_genai.LLMPipeline(
            str(request.folder / OPENVINO), "CPU", scheduler_config=scheduler, ATTENTION_BACKEND="PA", **options
        )

    def run(self, ids: Sequence[int], decode_tokens: int) -> worker.Run:
        rows = np.array([ids], np.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(rows), openvino.Tensor(np.ones_like(rows)))
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos = 1 + decode_tokens, False, True
        config.apply_chat_template = False
        result = self._pipeline.generate(inputs, config)
        rate = 1e3 / result.perf_metrics.get_tpot().mean if decode_tokens else None
        return worker.Run(int(result.tokens[0][0]), result.perf_metrics.get_ttft().mean / 1e3, rate)

    def facts(self) -> dict[str, Any]:
        capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return {"version": worker.versions("openvino-genai"), "isa": " ".join(map(str, capabilities))}


def open_model(request: worker.Request, length: int) -> worker.Model:
    return OpenVinoModel(request, length)
