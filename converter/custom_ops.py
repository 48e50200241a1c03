"""The custom op as an operator of a flatbuffer (docs/op_spec.md): the order of its inputs, and its option bytes."""

from ai_edge_litert import schema_py_generated as schema

from shadowattn.converter.flatbuffer import OpCode, Options, Subgraph
from shadowattn.models.bundle import TensorInfo
from shadowattn.models.op_options import SPARSE_ATTENTION, OpOptions
from shadowattn.models.spec import ModelSpec

_SCALARS = ("position", "n_valid", "cache")


def fused_attention(graph: Subgraph, spec: ModelSpec, layer: int, qkv: dict[str, int], o: TensorInfo) -> int:
    """Appends ShadowSparseAttention to a prefill or decode graph; returns the tensor of o."""
    output = graph.tensor(f"layer_{layer}/o", o)
    inputs = [qkv["q"], qkv["k"], qkv["v"], *(graph.inputs[name] for name in _SCALARS)]
    options = Options(custom=OpOptions.of(spec, layer).pack())
    graph.operator(OpCode(schema.BuiltinOperator.CUSTOM, 1, SPARSE_ATTENTION), inputs, [output], options)
    return output
