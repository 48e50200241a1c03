"""OpenVINO's dense attention."""

import importlib
from typing import Any

import numpy as np
from attention_kernel import BFLOAT16, FLOAT32, DenseTask, Task
from recorded import Rows


class OpenVinoKernel:
    """ScaledDotProductAttention of opset 13, K and V once per query head, made before the time."""

    ours = False

    def __init__(self, precision: str, num_threads: int) -> None:
        self._openvino = importlib.import_module("openvino")
        self._config = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": num_threads}
        self.name = f"OpenVINO SDPA {precision}"
        self.exactness = FLOAT32 if precision == "f32" else BFLOAT16

    def prefill(self, rows: Rows) -> Task:
        arrays = _repeated(rows)
        request = self._request([array.shape for array in arrays], True, rows.scale)
        return DenseTask(lambda _: _infer(request, arrays), lambda y: y[0])

    def decode(self, rows: Rows, steps: int) -> Task:
        q, k, v = _repeated(rows)
        request = self._request([(1, q.shape[1], -1, q.shape[3])] * 3, False, rows.scale)
        ends = iter(range(len(rows.q) - steps + 1, len(rows.q) + 1))

        def next_row() -> list[np.ndarray]:
            end = next(ends)
            return [np.ascontiguousarray(array) for array in (q[:, :, end - 1 : end], k[:, :, :end], v[:, :, :end])]

        return DenseTask(lambda row: _infer(request, row), lambda y: y[0], next_row)

    def _request(self, shapes: list[Any], causal: bool, scale: float) -> Any:
        ops = importlib.import_module("openvino.opset13")
        inputs = [ops.parameter(self._openvino.PartialShape(list(shape)), np.float32) for shape in shapes]
        mask = ops.constant(np.zeros((), np.float32))
        factor = ops.constant(np.array(scale, np.float32))
        attend = ops.scaled_dot_product_attention(*inputs, mask, factor, causal=causal)
        model = self._openvino.Model([attend], inputs)
        return self._openvino.Core().compile_model(model, "CPU", self._config).create_infer_request()


def _infer(request: Any, arrays: list[np.ndarray]) -> np.ndarray:
    return np.asarray(request.infer(arrays, share_inputs=True, share_outputs=True)[0])


def _repeated(rows: Rows) -> list[np.ndarray]:
    """q, k, v [1,H,n,d]."""
    k, v = (array.repeat(rows.group, 1) for array in (rows.k, rows.v))
    return [np.ascontiguousarray(array.transpose(1, 0, 2))[None] for array in (rows.q, k, v)]
