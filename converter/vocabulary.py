"""The graph parts that hold the vocabulary: embedding, lm_head and the `score` graph.

They need no arithmetic of ours and their weight is the largest of a model, so they are written as LiteRT operators
directly instead of going through torch. With tied embeddings, embedding and lm_head share one INT8 buffer: both take
one scale per row.
"""

from ai_edge_litert import schema_py_generated as schema

from shadowattn.converter.flatbuffer import OpCode, Options, Subgraph
from shadowattn.converter.weight_names import EMBEDDING, HEAD_ROTATION, LM_HEAD
from shadowattn.models.bundle import Graph, TensorInfo
from shadowattn.models.spec import ModelSpec

_CHANNELWISE_HYBRID = 12  # FULLY_CONNECTED with float input and per-channel INT8 filter
_FLOAT_KEEP_DIMS = 5


def fully_connected_version(quantized: bool) -> int:
    """Version of FULLY_CONNECTED for an INT8 or a float32 filter."""
    return _CHANNELWISE_HYBRID if quantized else _FLOAT_KEEP_DIMS


def add_embedding(graph: Subgraph, spec: ModelSpec) -> int:
    """tokens [1,T] -> residual [1,T,D]; returns its tensor. EMBEDDING_LOOKUP reports ids outside the vocabulary."""
    chunk = int(graph.table.tensors[graph.inputs["tokens"]].shape[1])
    ids = graph.tensor("token_ids", TensorInfo("int32", (chunk,)))
    rows = graph.tensor("embedding_rows", TensorInfo("float32", (chunk, spec.hidden_size)))
    residual = graph.tensor("embedding", TensorInfo("float32", (1, chunk, spec.hidden_size)))
    table = graph.weight(EMBEDDING, (spec.vocab_size, spec.hidden_size))
    version = 4 if graph.model.recipe.quantizes(EMBEDDING, 2) else 1
    _reshape(graph, graph.inputs["tokens"], ids)
    graph.operator(OpCode(schema.BuiltinOperator.EMBEDDING_LOOKUP, version), [ids, table], [rows])
    _reshape(graph, rows, residual)
    return residual


def add_lm_head(graph: Subgraph, spec: ModelSpec, hidden: int, logits: TensorInfo) -> int:
    """hidden [1,rows,D] -> logits; returns their tensor. A shared table is in the basis of the embedding: hidden is
    turned to the last norm's weights and back (converter/rotation.py)."""
    if spec.tied_embeddings and graph.model.recipe.rotated:
        shape = tuple(int(size) for size in graph.table.tensors[hidden].shape)
        turned = graph.tensor("head_input", TensorInfo("float32", shape))
        hidden = _linear(graph, hidden, HEAD_ROTATION, (spec.hidden_size, spec.hidden_size), turned)
    name = EMBEDDING if spec.tied_embeddings else LM_HEAD
    return _linear(graph, hidden, name, (spec.vocab_size, spec.hidden_size), graph.tensor("logits", logits))


def _linear(graph: Subgraph, inputs: int, name: str, shape: tuple[int, int], output: int) -> int:
    """FULLY_CONNECTED with the weight of that name; returns `output`."""
    options = schema.FullyConnectedOptionsT()
    options.keepNumDims = len(graph.table.tensors[output].shape) == 3
    version = fully_connected_version(graph.model.recipe.quantizes(name, 2))
    operands = [inputs, graph.weight(name, shape), -1]
    table = Options(schema.BuiltinOptions.FullyConnectedOptions, options)
    graph.operator(OpCode(schema.BuiltinOperator.FULLY_CONNECTED, version), operands, [output], table)
    return output


def build_score(graph: Subgraph, spec: ModelSpec, info: Graph) -> None:
    """hidden [1,R,D], targets [1,R] -> logits [1,R,vocab] and the targets' log-probabilities [1,R]."""
    logits = add_lm_head(graph, spec, graph.inputs["hidden"], info.outputs["logits"])
    all_logprobs = graph.tensor("all_logprobs", info.outputs["logits"])
    logprobs = graph.tensor("logprobs", info.outputs["logprobs"])
    graph.operator(
        OpCode(schema.BuiltinOperator.LOG_SOFTMAX),
        [logits],
        [all_logprobs],
        Options(schema.BuiltinOptions.LogSoftmaxOptions, schema.LogSoftmaxOptionsT()),
    )
    pick = schema.GatherOptionsT()
    pick.axis, pick.batchDims = 2, 2
    graph.operator(
        OpCode(schema.BuiltinOperator.GATHER, 5),
        [all_logprobs, graph.inputs["targets"]],
        [logprobs],
        Options(schema.BuiltinOptions.GatherOptions, pick),
    )
    graph.finish({"logprobs": logprobs, "logits": logits})


def _reshape(graph: Subgraph, source: int, target: int) -> None:
    shape = [int(size) for size in graph.table.tensors[target].shape]
    options = schema.ReshapeOptionsT()
    options.newShape = shape
    shape_tensor = graph.constant(
        schema.TensorType.INT32, (len(shape),), b"".join(size.to_bytes(4, "little") for size in shape)
    )
    graph.operator(
        OpCode(schema.BuiltinOperator.RESHAPE),
        [source, shape_tensor],
        [target],
        Options(schema.BuiltinOptions.ReshapeOptions, options),
    )
