"""The produced file against torch: which operators it has, and whether its linear graphs compute what the pieces do.

Runs on LiteRT's builtin kernels (no XNNPACK: nothing is packed, so it is cheap) and without the delegate: the graphs
that hold custom ops are checked by their operators.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shadowattn.converter.assemble import FINAL_PREFIX, layer_prefix
from shadowattn.converter.layers import AfterAttention, BeforeAttention, Final, Rope
from shadowattn.converter.recipes import Recipe, StoredWeight
from shadowattn.converter.weight_names import EMBEDDING, HEAD_ROTATION, LM_HEAD
from shadowattn.models.bundle import Graph
from shadowattn.models.op_options import OpOptions
from shadowattn.models.spec import ModelSpec

# Root mean square of the difference over that of the values. INT8: LiteRT quantises the activations as well, and random
# inputs are not what the weights were made for; a wrongly placed weight or tensor gives 1 and more.
THRESHOLDS = {32: 1e-5, 8: 0.2}  # by the recipe's bits


@dataclasses.dataclass(frozen=True)
class Verification:
    """Relative difference of a graph's outputs (the worst of them), by signature."""

    differences: dict[str, float]


class Reference:
    """What the linear graphs compute, in torch, with the weights as they are stored."""

    def __init__(self, spec: ModelSpec, recipe: Recipe, load_weight: Callable[[str], StoredWeight]) -> None:
        self._spec, self._recipe = spec, recipe
        self._load = lambda name: torch.from_numpy(load_weight(name).dequantized())

    def linear(self, layer: int, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of linear_<layer>_<T>."""
        spec, rotated = self._spec, self._recipe.rotated
        given = {name: torch.from_numpy(array) for name, array in inputs.items()}
        with torch.inference_mode():
            if layer == 0:
                residual = self._load(EMBEDDING)[given["tokens"].long()]
            else:
                after = self._filled(AfterAttention(spec, rotated), layer_prefix(layer - 1))
                residual = after(given["o"], given["residual"])["residual"]
            if layer == spec.num_layers:
                ends = self._filled(Final(spec, rotated), FINAL_PREFIX)(residual, given["n_valid"])
                outputs = {"logits": self._logits(ends["last"])[0], "hidden": ends["hidden"]}
            else:
                angles = Rope(spec, residual.shape[1])(given["position"])
                before = self._filled(BeforeAttention(spec, rotated), layer_prefix(layer))
                outputs = {"residual": residual, **before(residual, **angles)}
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        if not self._spec.tied_embeddings:
            return hidden @ self._load(LM_HEAD).T
        if self._recipe.rotated:
            hidden = hidden @ self._load(HEAD_ROTATION).T
        return hidden @ self._load(EMBEDDING).T

    def _filled(self, module: torch.nn.Module, prefix: str) -> torch.nn.Module:
        for name, parameter in module.named_parameters():
            parameter.copy_(self._load(prefix + name))
        return module


def verify_model(
    path: Path, spec: ModelSpec, recipe: Recipe, graphs: tuple[Graph, ...], load_weight: Callable[[str], StoredWeight]
) -> Verification:
    """Checks the file. Raises RuntimeError that names the graph if it is not what was planned."""
    interpreter = _interpreter(path)
    check_operators(path, spec, graphs)
    reference = Reference(spec, recipe, load_weight)
    chunk = min(graph.chunk for graph in graphs if graph.role == "prefill")
    differences = {}
    for layer in sorted({0, spec.num_layers // 2, spec.num_layers}):
        graph = next(g for g in graphs if g.role == "linear" and g.layer == layer and g.chunk == chunk)
        inputs = _random_inputs(graph, spec)
        found = interpreter.get_signature_runner(graph.signature)(**inputs)
        wanted = reference.linear(layer, inputs)
        difference = max(_relative(found[name], wanted[name]) for name in graph.outputs)
        if not difference <= THRESHOLDS[recipe.bits]:
            raise RuntimeError(
                f"{graph.signature} differs from torch by {difference:.2g} of its magnitude, "
                f"at most {THRESHOLDS[recipe.bits]} is expected; this is a bug of shadowattn or of the LiteRT in use"
            )
        differences[graph.signature] = difference
    return Verification(differences)


def check_operators(path: Path, spec: ModelSpec, graphs: tuple[Graph, ...]) -> None:
    """Every planned signature is there, and its custom ops carry the layers in order. Raises RuntimeError."""
    found = custom_op_layers(path)
    for graph in graphs:
        wanted = list(range(spec.num_layers)) if graph.role in ("prefill", "decode") else []
        if found.get(graph.signature) != wanted:
            raise RuntimeError(f"{path}: {graph.signature} has custom ops for layers {found.get(graph.signature)}")


def custom_op_layers(path: Path) -> dict[str, list[int]]:
    """Signature -> layer of each custom op, in execution order."""
    from ai_edge_litert import schema_py_generated as schema

    content = np.memmap(path, np.uint8, "r")
    model = schema.Model.GetRootAs(content, 0)
    layers: dict[str, list[int]] = {}
    for i in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(i)
        graph = model.Subgraphs(signature.SubgraphIndex())
        operators = (graph.Operators(j) for j in range(graph.OperatorsLength()))
        layers[signature.SignatureKey().decode()] = [
            OpOptions.unpack(operator.CustomOptionsAsNumpy().tobytes()).layer
            for operator in operators
            if operator.CustomOptionsLength()
        ]
    return layers


def _interpreter(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(model_path=str(path), experimental_op_resolver_type=resolver)


def _random_inputs(graph: Graph, spec: ModelSpec) -> dict[str, np.ndarray]:
    """Inputs of a linear graph: seeded normal floats, tokens of the vocabulary, a position, a partly valid chunk."""
    rng = np.random.default_rng(0)
    integers = {"position": spec.max_length // 2, "n_valid": max(graph.chunk - 1, 1)}
    inputs = {}
    for name, info in graph.inputs.items():
        if name == "tokens":
            inputs[name] = rng.integers(0, spec.vocab_size, info.shape).astype(np.int32)
        elif info.dtype == "int32":
            inputs[name] = np.full(info.shape, integers[name], np.int32)
        else:
            inputs[name] = rng.standard_normal(info.shape).astype(np.float32)
    return inputs


def _relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """Root mean square of the difference, relative; infinite for NaN."""
    difference = np.sqrt(np.mean((found.astype(np.float64) - wanted) ** 2))
    return float(np.nan_to_num(difference / (np.sqrt(np.mean(wanted.astype(np.float64) ** 2)) + 1e-30), nan=np.inf))
