"""The INT8 estimate graphs: one static BATCH_MATMUL, q_i8 [N_kv,G*T,d] x k_i8 [N_kv,S,d]^T -> scores_i8 [N_kv,G*T,S].

No mask, no softmax, no top-k: softmax keeps the order, and the causal mask is applied by select. Written straight as a
flatbuffer, so that the scales are exact to the bit.
"""

from ai_edge_litert import schema_py_generated as schema

from shadowattn.converter.flatbuffer import OpCode, Options, Subgraph
from shadowattn.models.bundle import Graph

_BATCH_MATMUL = OpCode(schema.BuiltinOperator.BATCH_MATMUL, 2)


def build_estimate(graph: Subgraph, info: Graph) -> None:
    """The whole graph estimate_<T>_<S>."""
    scores = graph.tensor("scores_i8", info.outputs["scores_i8"])
    options = schema.BatchMatMulOptionsT()
    options.adjX, options.adjY, options.asymmetricQuantizeInputs = False, True, False
    graph.operator(
        _BATCH_MATMUL,
        [graph.inputs["q_i8"], graph.inputs["k_i8"]],
        [scores],
        Options(schema.BuiltinOptions.BatchMatMulOptions, options),
    )
    graph.finish({"scores_i8": scores})
