"""Puts the graphs of a bundle together: each converted piece is placed once per layer, with that layer's weights.

The fused and the split form are made of the same pieces, so both run the same operators on the same weights. Placing
costs no memory and no time worth naming: a model of any depth is converted as fast as one layer.
"""

import dataclasses
from collections.abc import Callable, Mapping

from ai_edge_litert import schema_py_generated as schema

from shadowattn.converter.custom_ops import fused_attention
from shadowattn.converter.export import Piece, PieceOperator
from shadowattn.converter.flatbuffer import ModelFile, OpCode, Subgraph
from shadowattn.converter.recipes import Recipe, StoredWeight
from shadowattn.converter.vocabulary import add_embedding, add_lm_head, build_score, fully_connected_version
from shadowattn.models.bundle import Graph, TensorInfo
from shadowattn.models.spec import ModelSpec

Pieces = Mapping[tuple[str, int], Piece]
FINAL_PREFIX = "model."


def layer_prefix(layer: int) -> str:
    """What precedes a parameter's name within a layer."""
    return f"model.layers.{layer}."


def assemble(
    spec: ModelSpec,
    recipe: Recipe,
    pieces: Pieces,
    graphs: tuple[Graph, ...],
    load_weight: Callable[[str], StoredWeight],
) -> ModelFile:
    """Every graph of `graphs` as a subgraph of one file; the weights are fetched when the file is written."""
    model = ModelFile(recipe, load_weight)
    for info in graphs:
        graph = Subgraph(model, info.signature, info.inputs)
        builder = _Builder(spec, pieces, graph, info)
        if info.role in ("prefill", "decode"):
            builder.fused()
        elif info.role == "linear":
            builder.linear()
        else:
            build_score(graph, spec, info)
    return model


@dataclasses.dataclass(frozen=True)
class _Builder:
    """Builds one graph that has weights."""

    spec: ModelSpec
    pieces: Pieces
    graph: Subgraph
    info: Graph

    def fused(self) -> None:
        """prefill_<T>, decode: the whole model."""
        spec, graph = self.spec, self.graph
        o_info = TensorInfo("float32", (1, self.info.chunk, spec.num_heads * spec.head_dim))
        residual = add_embedding(graph, spec)
        angles = self._rope()
        for layer in range(spec.num_layers):
            qkv = self._before(layer, residual, angles)
            o = fused_attention(graph, spec, layer, qkv, o_info)
            residual = self._after(layer, o, residual)
        self._finish(residual)

    def linear(self) -> None:
        """linear_<i>_<T>: the end of layer i - 1 and the start of layer i."""
        layer = self.info.layer or 0
        graph = self.graph
        if layer == 0:
            residual = add_embedding(graph, self.spec)
        else:
            residual = self._after(layer - 1, graph.inputs["o"], graph.inputs["residual"])
        if layer == self.spec.num_layers:
            self._finish(residual)
            return
        qkv = self._before(layer, residual, self._rope())
        self._outputs({"residual": residual, **qkv})

    def _rope(self) -> dict[str, int]:
        return self._place("rope", "", {"position": self.graph.inputs["position"]})

    def _before(self, layer: int, residual: int, angles: dict[str, int]) -> dict[str, int]:
        return self._place("before", layer_prefix(layer), {"residual": residual, **angles})

    def _after(self, layer: int, o: int, residual: int) -> int:
        return self._place("after", layer_prefix(layer), {"o": o, "residual": residual})["residual"]

    def _finish(self, residual: int) -> None:
        bindings = {"residual": residual, "n_valid": self.graph.inputs["n_valid"]}
        ends = self._place("final", FINAL_PREFIX, bindings)
        logits = add_lm_head(self.graph, self.spec, ends["last"], self.info.outputs["logits"])
        self._outputs({"logits": logits, "hidden": ends["hidden"]})

    def _outputs(self, tensors: dict[str, int]) -> None:
        self.graph.finish({name: tensors[name] for name in self.info.outputs})

    def _place(self, name: str, prefix: str, bindings: dict[str, int]) -> dict[str, int]:
        return place(self.graph, self.pieces[name, self.info.chunk], f"{prefix}{name}/", prefix, bindings)


def place(graph: Subgraph, piece: Piece, label: str, weight_prefix: str, bindings: dict[str, int]) -> dict[str, int]:
    """Copies a piece's operators into a graph.

    bindings: the piece's inputs -> tensors of the graph. weight_prefix + parameter name is the weight's name; label
    starts the names of the new tensors. Returns the piece's outputs -> tensors of the graph.
    """
    mapped = {piece.inputs[name]: tensor for name, tensor in bindings.items() if name in piece.inputs}

    def tensor(index: int) -> int:
        if index < 0:
            return -1
        if index not in mapped:
            source = piece.tensors[index]
            if source.parameter is not None:
                mapped[index] = graph.weight(weight_prefix + source.parameter, source.shape)
            elif source.data is not None:
                mapped[index] = graph.constant(source.kind, source.shape, source.data)
            else:
                mapped[index] = graph.add_tensor(f"{label}{index}", source.kind, source.shape)
        return mapped[index]

    for operator in piece.operators:
        inputs = [tensor(index) for index in operator.inputs]
        outputs = [tensor(index) for index in operator.outputs]
        code = _code(graph, piece, operator, weight_prefix)
        graph.operator(code, inputs, outputs, operator.options)
    return {name: mapped[index] for name, index in piece.outputs.items()}


def _code(graph: Subgraph, piece: Piece, operator: PieceOperator, weight_prefix: str) -> OpCode:
    """The operator's code; FULLY_CONNECTED gets the version its stored filter needs."""
    if operator.code.builtin != schema.BuiltinOperator.FULLY_CONNECTED:
        return operator.code
    name = piece.tensors[operator.inputs[1]].parameter
    quantized = name is not None and graph.model.recipe.quantizes(weight_prefix + name, 2)
    return OpCode(operator.code.builtin, fully_connected_version(quantized))
