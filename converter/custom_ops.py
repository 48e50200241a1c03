"""The custom ops as operators of a flatbuffer (docs/op_spec.md): the order of their inputs, and their option bytes."""

from ai_edge_litert import schema_py_generated as schema

from shadowattn.converter.flatbuffer import OpCode, Options, Subgraph
from shadowattn.models.bundle import Graph, TensorInfo
from shadowattn.models.op_options import KV_APPEND, SPARSE_ATTENTION, Form, OpOptions
from shadowattn.models.spec import ModelSpec

_FUSED_INPUTS = ("position", "n_valid", "cache")


def fused_attention(graph: Subgraph, spec: ModelSpec, layer: int, qkv: dict[str, int], o: TensorInfo) -> int:
    """Appends ShadowSparseAttention in its fused form to a prefill or decode graph; returns the tensor of o."""
    output = graph.tensor(f"layer_{layer}/o", o)
    inputs = [qkv["q"], qkv["k"], qkv["v"], *(graph.inputs[name] for name in _FUSED_INPUTS)]
    graph.operator(_code(SPARSE_ATTENTION), inputs, [output], _options(spec, Form.FUSED, layer))
    return output


def build_kv_append(graph: Subgraph, spec: ModelSpec, info: Graph) -> None:
    """The whole graph kv_append_<T>_<S>."""
    _one_op(graph, info, KV_APPEND, _options(spec, Form.LAYER_INPUT, -1, info.seq_len or 0))


def build_attend(graph: Subgraph, spec: ModelSpec, info: Graph) -> None:
    """The whole graph attend_<T>_<S>."""
    _one_op(graph, info, SPARSE_ATTENTION, _options(spec, Form.SCORES | Form.LAYER_INPUT, -1))


def _one_op(graph: Subgraph, info: Graph, op: str, options: Options) -> None:
    """A graph of one custom op: the order of info's inputs and outputs is the op's (docs/op_spec.md)."""
    outputs = {name: graph.tensor(name, tensor) for name, tensor in info.outputs.items()}
    graph.operator(_code(op), list(graph.inputs.values()), list(outputs.values()), options)
    graph.finish(outputs)


def _code(op: str) -> OpCode:
    return OpCode(schema.BuiltinOperator.CUSTOM, 1, op)


def _options(spec: ModelSpec, form: Form, layer: int, seq_len: int = 0) -> Options:
    options = OpOptions(
        form=form,
        layer=layer,
        num_layers=spec.num_layers,
        num_heads=spec.num_heads,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        softmax_scale=spec.softmax_scale,
        seq_len=seq_len,
    )
    return Options(custom=options.pack())
