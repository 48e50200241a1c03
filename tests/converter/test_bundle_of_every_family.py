"""The produced graphs, family by family, against transformers' float32: linear graphs chained with a NumPy attention.

Needs no delegate: the graphs that hold custom ops are checked by their operators here and run in
test_through_the_delegate.py.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tiny_models import CHUNK, FAMILIES

from shadowattn.models import bundle
from shadowattn.models.op_options import SPARSE_ATTENTION, OpOptions
from shadowattn.models.oracle import steps

TOLERANCE = 1e-4  # of the logits' magnitude


class SplitRunner:
    """Runs a bundle's linear graphs on LiteRT's builtin kernels, with exact attention between them."""

    def __init__(self, path: Path) -> None:
        self.manifest = bundle.read_manifest(path)
        self._interpreter = Interpreter(
            model_path=str(path / bundle.MODEL),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        spec = self.manifest.model
        self._keys = [np.zeros((0, spec.num_kv_heads, spec.head_dim), np.float32) for _ in range(spec.num_layers)]
        self._values = list(self._keys)

    def run(self, tokens: np.ndarray, position: int) -> np.ndarray:
        """tokens [n], n a chunk length -> logits [vocab] of the last."""
        chunk, layers = len(tokens), self.manifest.model.num_layers
        at = {"position": np.array([position], np.int32)}
        state = self._call(f"linear_0_{chunk}", {"tokens": tokens[None].astype(np.int32), **at})
        for layer in range(1, layers + 1):
            given = {"o": self._attend(layer - 1, state), "residual": state["residual"]}
            given |= at if layer < layers else {"n_valid": np.array([chunk], np.int32)}
            state = self._call(f"linear_{layer}_{chunk}", given)
        return state["logits"][0]

    def _attend(self, layer: int, state: dict[str, np.ndarray]) -> np.ndarray:
        self._keys[layer] = np.concatenate([self._keys[layer], state["k"][0]])
        self._values[layer] = np.concatenate([self._values[layer], state["v"][0]])
        o = steps.sparse_attention(
            state["q"][0],
            self._keys[layer],
            self._values[layer],
            None,
            steps.SelectRule(),
            self.manifest.model.softmax_scale,
        )
        return o[None].astype(np.float32)

    def _call(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        graph = self.manifest.graph(signature)
        outputs = self._interpreter.get_signature_runner(signature)(**inputs)
        assert {name: array.shape for name, array in outputs.items()} == {
            name: info.shape for name, info in graph.outputs.items()
        }
        return outputs


def read_schema(path: Path) -> schema.ModelT:
    content = (path / bundle.MODEL).read_bytes()
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def operators(model: schema.ModelT, graph: schema.SubGraphT) -> list[Any]:
    """(builtin code or custom name, operator) in execution order."""
    codes = [code.customCode.decode() if code.customCode else code.builtinCode for code in model.operatorCodes]
    return [(codes[operator.opcodeIndex], operator) for operator in graph.operators]


def subgraph(model: schema.ModelT, signature: str) -> schema.SubGraphT:
    index = next(s.subgraphIndex for s in model.signatureDefs if s.signatureKey.decode() == signature)
    return model.subgraphs[index]


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_transformers(family, tiny_bundle):
    model, path = tiny_bundle(family)
    tokens = np.random.default_rng(7).integers(0, 288, 3 * CHUNK + 2)
    wanted = model.logits(tokens)
    runner = SplitRunner(path)
    for start in range(0, 3 * CHUNK, CHUNK):
        logits = runner.run(tokens[start : start + CHUNK], start)
        row = wanted[start + CHUNK - 1]
        assert np.abs(logits - row).max() <= TOLERANCE * np.abs(row).max(), f"chunk at {start}"
    for position in (3 * CHUNK, 3 * CHUNK + 1):
        logits = runner.run(tokens[position : position + 1], position)
        assert np.abs(logits - wanted[position]).max() <= TOLERANCE * np.abs(wanted[position]).max()


def test_int8_bundle_is_close_to_float(tiny_bundle):
    model, path = tiny_bundle("llama", "int8")
    tokens = np.random.default_rng(8).integers(0, 288, CHUNK)
    wanted = model.logits(tokens)[-1]
    found = SplitRunner(path).run(tokens, 0)
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.1 * np.sqrt(np.mean(wanted**2))


@pytest.mark.parametrize("family", FAMILIES)
def test_fused_graphs_hold_one_op_per_layer_in_order(family, tiny_bundle):
    _, path = tiny_bundle(family)
    manifest = bundle.read_manifest(path)
    model = read_schema(path)
    for signature in (f"prefill_{CHUNK}", "decode"):
        graph = subgraph(model, signature)
        options = [
            OpOptions.unpack(bytes(operator.customOptions))
            for name, operator in operators(model, graph)
            if name == SPARSE_ATTENTION
        ]
        assert [option.layer for option in options] == list(range(manifest.model.num_layers))
        assert {option.num_kv_heads for option in options} == {manifest.model.num_kv_heads}


def test_every_graph_of_the_manifest_is_in_the_file_with_its_shapes(tiny_bundle):
    _, path = tiny_bundle("qwen3")
    manifest, model = bundle.read_manifest(path), read_schema(path)
    types = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32, "int8": schema.TensorType.INT8}
    assert [s.signatureKey.decode() for s in model.signatureDefs] == [g.signature for g in manifest.graphs]
    for info, definition in zip(manifest.graphs, model.signatureDefs, strict=True):
        graph = model.subgraphs[definition.subgraphIndex]
        for entries, infos in ((definition.inputs, info.inputs), (definition.outputs, info.outputs)):
            found = {entry.name.decode(): graph.tensors[entry.tensorIndex] for entry in entries}
            assert list(found) == list(infos)
            for name, tensor in found.items():
                assert tuple(tensor.shape) == infos[name].shape
                assert tensor.type == types[infos[name].dtype]
                assert tensor.quantization is None


def test_tensor_0_names_the_signature(tiny_bundle):
    _, path = tiny_bundle("llama")
    model = read_schema(path)
    for definition in model.signatureDefs:
        graph = model.subgraphs[definition.subgraphIndex]
        assert graph.tensors[0].name.decode().split(":")[0] == definition.signatureKey.decode()
        assert graph.inputs[0] == 0


def test_the_longest_prefill_is_the_primary_subgraph(tiny_bundle):
    _, path = tiny_bundle("llama")
    assert read_schema(path).subgraphs[0].name.decode() == f"prefill_{CHUNK}"


@pytest.mark.parametrize(("family", "matrices"), [("llama", 2 * 7 + 2), ("llama_linear_mha_tied", 2 * 7 + 1)])
def test_weights_are_stored_once(family, matrices, tiny_bundle):
    _, path = tiny_bundle(family, "int8")
    model = read_schema(path)
    buffers = {
        tensor.buffer for graph in model.subgraphs for tensor in graph.tensors if tensor.type == schema.TensorType.INT8
    } - {0}
    assert len(buffers) == matrices
    parameters = bundle.read_manifest(path).model.num_parameters
    assert sum(len(model.buffers[i].data) for i in buffers) == parameters


def test_constants_are_aligned(tiny_bundle):
    _, path = tiny_bundle("llama")
    content = (path / bundle.MODEL).read_bytes()
    model = schema.Model.GetRootAs(content, 0)
    for i in range(model.BuffersLength()):
        data = model.Buffers(i).DataAsNumpy()
        if isinstance(data, np.ndarray) and data.size:
            offset = (
                data.__array_interface__["data"][0] - np.frombuffer(content, np.uint8).__array_interface__["data"][0]
            )
            assert offset % 16 == 0


def test_score_gives_the_targets_log_probabilities(tiny_bundle):
    model, path = tiny_bundle("mistral")
    manifest = bundle.read_manifest(path)
    rows = manifest.score_rows
    rng = np.random.default_rng(3)
    hidden = rng.standard_normal((1, rows, 64)).astype(np.float32)
    targets = rng.integers(0, 288, (1, rows)).astype(np.int32)
    interpreter = Interpreter(
        model_path=str(path / bundle.MODEL),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    found = interpreter.get_signature_runner(f"score_{rows}")(hidden=hidden, targets=targets)
    head = model.model.lm_head.weight.detach().numpy().astype(np.float64)
    logits = hidden[0].astype(np.float64) @ head.T
    logprobs = logits - logits.max(-1, keepdims=True)
    logprobs -= np.log(np.exp(logprobs).sum(-1, keepdims=True))
    assert np.abs(found["logits"][0] - logits).max() < 1e-4 * np.abs(logits).max()
    assert np.abs(found["logprobs"][0] - logprobs[np.arange(rows), targets[0]]).max() < 1e-3


def test_manifest_tells_where_the_model_comes_from(tiny_bundle):
    _, path = tiny_bundle("llama")
    manifest = bundle.read_manifest(path)
    assert manifest.licence == "apache-2.0"
    assert manifest.tokenizer.file == bundle.TOKENIZER
    assert manifest.tokenizer.stop_token_ids == (2,)
    assert manifest.tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert (path / bundle.CHAT_TEMPLATE).read_text() == "{{ messages[0].content }}"
    assert manifest.max_length == 192
    assert manifest.seq_lens == (192,)
    assert bundle.verify(path, manifest) == []
    assert sorted(file.name for file in path.iterdir()) == sorted([*manifest.files, bundle.MANIFEST])
