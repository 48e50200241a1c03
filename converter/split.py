"""Which graphs a model becomes: signatures, roles, inputs, outputs (docs/bundle_format.md). Decides, builds nothing."""

from collections.abc import Mapping

from shadowattn.models.bundle import Graph, TensorInfo, parse_signature
from shadowattn.models.spec import ModelSpec

DEFAULT_CHUNKS = (32, 256)
SCORE_ROWS = 64
SHORTEST_BUCKET = 1024
_BUCKET_STEP = 64

Tensors = Mapping[str, TensorInfo]


def sequence_buckets(max_length: int) -> tuple[int, ...]:
    """Bucket lengths S: doubling from 1,024; the last is max_length rounded up to a multiple of 64."""
    last = -(-max_length // _BUCKET_STEP) * _BUCKET_STEP
    lengths = []
    length = SHORTEST_BUCKET
    while length < last:
        lengths.append(length)
        length *= 2
    return (*lengths, last)


def prefill_ladder(chunks: tuple[int, ...] | None, max_length: int) -> tuple[int, ...]:
    """The chunk lengths, ascending. None: the default ladder, cut to max_length. ValueError for impossible ones."""
    if chunks is None:
        return tuple(c for c in DEFAULT_CHUNKS if c <= max_length) or (max_length,)
    ladder = tuple(sorted(set(chunks)))
    if not ladder or ladder[0] < 1 or ladder[-1] > max_length:
        raise ValueError(
            f"prefill_chunks must be lengths between 1 and max_length ({max_length}), got {tuple(chunks)}; "
            f"leave the option out for {DEFAULT_CHUNKS}"
        )
    return ladder


def split_chunks(ladder: tuple[int, ...]) -> tuple[int, ...]:
    """Every T that has linear graphs: the ladder and 1, for decoding."""
    return tuple(sorted({1, *ladder}))


def plan_graphs(spec: ModelSpec, ladder: tuple[int, ...]) -> tuple[Graph, ...]:
    """Every graph of model.tflite, in file order: tools that know no signatures run the first, the longest prefill."""
    graphs = [_graph(f"prefill_{chunk}", *_fused(spec, chunk)) for chunk in reversed(ladder)]
    graphs.append(_graph("decode", *_fused(spec, 1)))
    graphs.append(_graph(f"score_{SCORE_ROWS}", *_score(spec, SCORE_ROWS)))
    for chunk in split_chunks(ladder):
        for layer in range(spec.num_layers + 1):
            graphs.append(_graph(f"linear_{layer}_{chunk}", *_linear(spec, layer, chunk)))
    return tuple(graphs)


def _graph(signature: str, inputs: Tensors, outputs: Tensors) -> Graph:
    return Graph(signature=signature, inputs=inputs, outputs=outputs, **parse_signature(signature))


def _ints(*shape: int) -> TensorInfo:
    return TensorInfo("int32", shape)


def _floats(*shape: int) -> TensorInfo:
    return TensorInfo("float32", shape)


_ONE = _ints(1)


def _model_end(spec: ModelSpec, chunk: int) -> Tensors:
    return {"logits": _floats(1, spec.vocab_size), "hidden": _floats(1, chunk, spec.hidden_size)}


def _fused(spec: ModelSpec, chunk: int) -> tuple[Tensors, Tensors]:
    inputs = {"tokens": _ints(1, chunk), "position": _ONE, "n_valid": _ONE, "cache": _ONE}
    return inputs, _model_end(spec, chunk)


def _score(spec: ModelSpec, rows: int) -> tuple[Tensors, Tensors]:
    inputs = {"hidden": _floats(1, rows, spec.hidden_size), "targets": _ints(1, rows)}
    return inputs, {"logprobs": _floats(1, rows), "logits": _floats(1, rows, spec.vocab_size)}


def _qkv(spec: ModelSpec, chunk: int) -> Tensors:
    kv = _floats(1, chunk, spec.num_kv_heads, spec.head_dim)
    return {"q": _floats(1, chunk, spec.num_heads, spec.head_dim), "k": kv, "v": kv}


def _linear(spec: ModelSpec, layer: int, chunk: int) -> tuple[Tensors, Tensors]:
    residual = _floats(1, chunk, spec.hidden_size)
    middle_out = {"residual": residual, **_qkv(spec, chunk)}
    if layer == 0:
        return {"tokens": _ints(1, chunk), "position": _ONE}, middle_out
    end_of_layer = {"o": _floats(1, chunk, spec.num_heads * spec.head_dim), "residual": residual}
    if layer == spec.num_layers:
        return {**end_of_layer, "n_valid": _ONE}, _model_end(spec, chunk)
    return {**end_of_layer, "position": _ONE}, middle_out
