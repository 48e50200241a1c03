"""ONNX Runtime's dense attention."""

import importlib
from typing import Any

import numpy as np
from attention_kernel import FLOAT32, DenseTask, Task
from recorded import Rows


class OnnxRuntimeKernel:
    """GroupQueryAttention of the domain com.microsoft, float32; decode reads the rows before from a past."""

    ours = False
    name = "ONNX Runtime GroupQueryAttention float32"
    exactness = FLOAT32

    def __init__(self, num_threads: int) -> None:
        self._onnx = importlib.import_module("onnx")
        self._runtime = importlib.import_module("onnxruntime")
        self._num_threads = num_threads

    def prefill(self, rows: Rows) -> Task:
        feeds = _onnx_feeds(rows, 0, len(rows.q))
        session = self._session(rows)
        return DenseTask(lambda _: session.run(["y"], feeds)[0], lambda y: _heads_first(y, rows))

    def decode(self, rows: Rows, steps: int) -> Task:
        starts = iter(range(len(rows.q) - steps, len(rows.q)))
        session = self._session(rows)

        def compute(feeds: dict[str, np.ndarray]) -> Any:
            return session.run(["y"], feeds)[0]

        return DenseTask(compute, lambda y: _heads_first(y, rows), lambda: _onnx_feeds(rows, next(starts), 1))

    def _session(self, rows: Rows) -> Any:
        helper, kind = self._onnx.helper, self._onnx.TensorProto
        heads, kv_heads, dim = rows.q.shape[1], rows.k.shape[1], rows.q.shape[2]
        inputs, outputs = ["q", "k", "v", "past_k", "past_v", "last", "total"], ["y", "new_k", "new_v"]
        settings = {"num_heads": heads, "kv_num_heads": kv_heads, "scale": rows.scale}
        node = helper.make_node("GroupQueryAttention", inputs, outputs, domain="com.microsoft", **settings)
        wide, narrow, past = [1, "n", heads * dim], [1, "n", kv_heads * dim], [1, kv_heads, "p", dim]
        shapes = dict(zip(inputs, (wide, narrow, narrow, past, past), strict=False))
        described = [helper.make_tensor_value_info(name, kind.FLOAT, shape) for name, shape in shapes.items()]
        described.append(helper.make_tensor_value_info("last", kind.INT32, [1]))
        described.append(helper.make_tensor_value_info("total", kind.INT32, []))
        result = helper.make_tensor_value_info("y", kind.FLOAT, wide)
        graph = helper.make_graph([node], "attention", described, [result])
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._num_threads
        return self._runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _onnx_feeds(rows: Rows, start: int, count: int) -> dict[str, np.ndarray]:
    """Rows start .. start+count-1, those before as the past."""
    end = start + count
    flat = {name: getattr(rows, name)[start:end].reshape(1, count, -1) for name in ("q", "k", "v")}
    past = {f"past_{name}": np.ascontiguousarray(getattr(rows, name)[:start].transpose(1, 0, 2))[None] for name in "kv"}
    return {**flat, **past, "last": np.array([end - 1], np.int32), "total": np.array(end, np.int32)}


def _heads_first(y: np.ndarray, rows: Rows) -> np.ndarray:
    return y.reshape(-1, *rows.q.shape[1:]).transpose(1, 0, 2)
