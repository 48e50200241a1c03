"""The graphs of a tiny bundle (docs/bundle_format.md), written op by op: fused, linear and score."""

import numpy as np
from flat_graph import FlatGraph, FlatModel
from tiny_decoder import Weights

from shadowattn.models.op_options import SPARSE_ATTENTION, OpOptions
from shadowattn.models.spec import ModelSpec


class TinyGraphs:
    """Adds signatures of one decoder to a FlatModel. T is the chunk."""

    def __init__(self, model: FlatModel, spec: ModelSpec, weights: Weights) -> None:
        self._model = model
        self._spec = spec
        self._weights = weights

    def fused(self, signature: str, chunk: int) -> None:
        """prefill_<T> or decode."""
        g = self._model.graph(signature)
        tokens = g.input("tokens", [1, chunk], "int32")
        position, n_valid, cache = (g.input(name, [1], "int32") for name in ("position", "n_valid", "cache"))
        x = self._embed(g, tokens, chunk)
        turn = self._angles(g, position, chunk)
        for layer in range(self._spec.num_layers):
            q, k, v = self._project(g, x, layer, turn, chunk)
            options = OpOptions.of(self._spec, layer)
            shape = [1, chunk, self._spec.num_heads * self._spec.head_dim]
            (o,) = g.custom(
                SPARSE_ATTENTION, [q, k, v, position, n_valid, cache], [(shape, "float32", None)], options.pack()
            )
            x = self._finish_layer(g, x, o, layer, chunk)
        g.finish(self._head(g, x, n_valid, chunk))

    def linear(self, layer: int, chunk: int) -> None:
        """linear_<i>_<T>, i from 0 to num_layers."""
        spec = self._spec
        g = self._model.graph(f"linear_{layer}_{chunk}")
        if layer == 0:
            x = self._embed(g, g.input("tokens", [1, chunk], "int32"), chunk)
        else:
            o = g.input("o", [1, chunk, spec.num_heads * spec.head_dim])
            x = self._finish_layer(g, g.input("residual", [1, chunk, spec.hidden_size]), o, layer - 1, chunk)
        if layer == spec.num_layers:
            g.finish(self._head(g, x, g.input("n_valid", [1], "int32"), chunk))
            return
        turn = self._angles(g, g.input("position", [1], "int32"), chunk)
        q, k, v = self._project(g, x, layer, turn, chunk)
        g.finish({"residual": x, "q": q, "k": k, "v": v})

    def score(self, rows: int) -> None:
        vocab = self._spec.vocab_size
        g = self._model.graph(f"score_{rows}")
        hidden = g.input("hidden", [1, rows, self._spec.hidden_size])
        targets = g.input("targets", [1, rows], "int32")
        logits = self._dense(g, hidden, "lm_head", [1, rows, vocab])
        flat = self._reshape(g, g.op("LOG_SOFTMAX", [logits], [1, rows, vocab]), [rows, vocab])
        index = g.constant(f"rows_{rows}", np.arange(rows, dtype=np.int32)[:, None])
        column = self._reshape(g, targets, [rows, 1], "int32")
        where = g.op("CONCATENATION", [index, column], [rows, 2], "int32", axis=1)
        picked = g.op("GATHER_ND", [flat, where], [rows])
        g.finish({"logprobs": self._reshape(g, picked, [1, rows]), "logits": logits})

    def _embed(self, g: FlatGraph, tokens: int, chunk: int) -> int:
        spec = self._spec
        flat = self._reshape(g, tokens, [chunk], "int32")
        table = g.constant("embed", self._weights["embed"])
        rows = g.op("EMBEDDING_LOOKUP", [flat, table], [chunk, spec.hidden_size])
        return self._reshape(g, rows, [1, chunk, spec.hidden_size])

    def _angles(self, g: FlatGraph, position: int, chunk: int) -> tuple[int, int]:
        """position [1] -> cos, sin [1,T,1,d/2]."""
        half = self._spec.head_dim // 2
        steps = g.constant(f"steps_{chunk}", np.arange(chunk, dtype=np.int32))
        where = g.op("ADD", [steps, position], [chunk], "int32")
        real = g.op("CAST", [where], [chunk], inDataType=2, outDataType=0)
        column = self._reshape(g, real, [1, chunk, 1, 1])
        frequencies = np.array(self._spec.rope.inverse_frequencies(self._spec.head_dim), np.float32)
        shape = [1, chunk, 1, half]
        angles = g.op("MUL", [column, g.constant("frequencies", frequencies.reshape(1, 1, 1, half))], shape)
        return g.op("COS", [angles], shape), g.op("SIN", [angles], shape)

    def _project(self, g: FlatGraph, x: int, layer: int, turn: tuple[int, int], chunk: int) -> tuple[int, int, int]:
        spec = self._spec
        h = self._norm(g, x, f"{layer}.attention_norm", chunk)
        q, k, v = (
            self._reshape(
                g,
                self._dense(g, h, f"{layer}.{name}", [1, chunk, heads * spec.head_dim]),
                [1, chunk, heads, spec.head_dim],
            )
            for name, heads in (("q", spec.num_heads), ("k", spec.num_kv_heads), ("v", spec.num_kv_heads))
        )
        return self._rotate(g, q, turn, chunk, spec.num_heads), self._rotate(g, k, turn, chunk, spec.num_kv_heads), v

    def _rotate(self, g: FlatGraph, x: int, turn: tuple[int, int], chunk: int, heads: int) -> int:
        half = self._spec.head_dim // 2
        shape = [1, chunk, heads, half]
        size = g.constant(f"size_{chunk}_{heads}", np.array(shape, np.int32))
        low, high = (
            g.op("SLICE", [x, g.constant(f"begin_{i}", np.array([0, 0, 0, i], np.int32)), size], shape)
            for i in (0, half)
        )
        cos, sin = turn

        def times(a: int, b: int) -> int:
            return g.op("MUL", [a, b], shape)

        first = g.op("SUB", [times(low, cos), times(high, sin)], shape)
        second = g.op("ADD", [times(high, cos), times(low, sin)], shape)
        return g.op("CONCATENATION", [first, second], [1, chunk, heads, 2 * half], axis=3)

    def _finish_layer(self, g: FlatGraph, x: int, o: int, layer: int, chunk: int) -> int:
        spec = self._spec
        narrow, wide = [1, chunk, spec.hidden_size], [1, chunk, spec.intermediate_size]
        x = g.op("ADD", [x, self._dense(g, o, f"{layer}.o", narrow)], narrow)
        h = self._norm(g, x, f"{layer}.mlp_norm", chunk)
        gate = self._dense(g, h, f"{layer}.gate", wide)
        active = g.op("MUL", [gate, g.op("LOGISTIC", [gate], wide)], wide)
        product = g.op("MUL", [active, self._dense(g, h, f"{layer}.up", wide)], wide)
        return g.op("ADD", [x, self._dense(g, product, f"{layer}.down", narrow)], narrow)

    def _head(self, g: FlatGraph, x: int, n_valid: int, chunk: int) -> dict[str, int]:
        """Residual -> logits of row n_valid-1 (clamped to the chunk) and all rows after the final norm."""
        spec = self._spec
        hidden = self._norm(g, x, "final_norm", chunk)
        row = g.op("SUB", [n_valid, g.constant("one", np.array([1], np.int32))], [1], "int32")
        row = g.op("MAXIMUM", [row, g.constant("zero", np.array([0], np.int32))], [1], "int32")
        row = g.op("MINIMUM", [row, g.constant(f"last_{chunk}", np.array([chunk - 1], np.int32))], [1], "int32")
        last = g.op("GATHER", [hidden, row], [1, 1, spec.hidden_size], axis=1)
        logits = self._dense(g, last, "lm_head", [1, 1, spec.vocab_size])
        return {"logits": self._reshape(g, logits, [1, spec.vocab_size]), "hidden": hidden}

    def _norm(self, g: FlatGraph, x: int, name: str, chunk: int) -> int:
        wide, narrow = [1, chunk, self._spec.hidden_size], [1, chunk, 1]
        axis = g.constant("axis", np.array([2], np.int32))
        mean = g.op("MEAN", [g.op("MUL", [x, x], wide), axis], narrow, keepDims=True)
        eps = g.constant("eps", np.array([self._spec.rms_norm_eps], np.float32))
        factor = g.op("RSQRT", [g.op("ADD", [mean, eps], narrow)], narrow)
        return g.op("MUL", [g.op("MUL", [x, factor], wide), g.constant(name, self._weights[name])], wide)

    def _dense(self, g: FlatGraph, x: int, name: str, shape: list[int]) -> int:
        return g.op("FULLY_CONNECTED", [x, g.constant(name, self._weights[name]), -1], shape, keepNumDims=True)

    def _reshape(self, g: FlatGraph, x: int, shape: list[int], dtype: str = "float32") -> int:
        name = "shape_" + "_".join(map(str, shape))
        return g.op("RESHAPE", [x, g.constant(name, np.array(shape, np.int32))], shape, dtype, newShape=shape)
