"""Writes a whole bundle of a tiny random decoder without torch, for tests of the runtime and the command line.

manifest = write_tiny_bundle(path)                       # defaults of TinySizes
manifest = write_tiny_bundle(path, num_heads=5, num_kv_heads=1, head_dim=40, chunks=(8, 32))
oracle = tiny_decoder(manifest)                          # the same decoder in NumPy, float64
"""

import dataclasses
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema
from flat_graph import FlatModel
from tiny_decoder import TinyDecoder, calibrate, random_weights
from tiny_graphs import TinyGraphs

from shadowattn.models.bundle import (
    MANIFEST,
    MODEL,
    FileInfo,
    Graph,
    Manifest,
    TensorInfo,
    Tokenizer,
    file_info,
    parse_signature,
)
from shadowattn.models.estimate_graphs import FILE_NAME as ESTIMATES
from shadowattn.models.estimate_graphs import EstimateKey, keys_of_bundle
from shadowattn.models.plan import FILE_NAME as PLAN
from shadowattn.models.plan import Plan
from shadowattn.models.spec import ModelSpec, RopeSpec

_DTYPES = {schema.TensorType.FLOAT32: "float32", schema.TensorType.INT32: "int32", schema.TensorType.INT8: "int8"}
NO_TOKENIZER = Tokenizer(None, None, None, (), {})


@dataclasses.dataclass(frozen=True)
class TinySizes:
    """What can be chosen. chunks is the prefill ladder, seq_lens the buckets, keep_ratio the bundle's default."""

    vocab: int = 97
    hidden: int = 48
    intermediate: int = 80
    layers: int = 2
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 16
    chunks: tuple[int, ...] = (4, 16)
    seq_lens: tuple[int, ...] = (64, 256)
    max_length: int = 256
    score_rows: int = 8
    keep_ratio: float = 0.2
    seed: int = 1

    def spec(self) -> ModelSpec:
        return ModelSpec(
            family="llama",
            vocab_size=self.vocab,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_layers=self.layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            rms_norm_eps=1e-5,
            rope=RopeSpec(10000.0),
            max_length=self.max_length,
            tied_embeddings=False,
        )


def write_tiny_bundle(
    path: Path,
    *,
    tokenizer: Tokenizer = NO_TOKENIZER,
    extra_files: Mapping[str, bytes] | None = None,
    **sizes: object,
) -> Manifest:
    """Writes the bundle folder `path` and returns its manifest. `sizes` are fields of TinySizes.

    tokenizer: the manifest's tokenizer entry; extra_files: the files it names (tokenizer.json, ...), by name.
    """
    chosen = TinySizes(**sizes)  # type: ignore[arg-type]
    spec = chosen.spec()
    decoder = TinyDecoder(spec, random_weights(spec, chosen.seed))
    plan = calibrate(decoder, chosen.seed)
    model = _model(chosen, decoder)
    path.mkdir(parents=True, exist_ok=True)
    keys = keys_of_bundle(spec, chosen.chunks, chosen.seq_lens, plan.grid.count)
    estimates = {ESTIMATES: _estimates(spec, plan, keys)} if keys else {}
    contents = {MODEL: model, PLAN: plan.to_bytes()} | estimates | dict(extra_files or {})
    for name, data in contents.items():
        (path / name).write_bytes(data)
    files = {name: file_info(path / name) for name in contents}
    manifest = _manifest(chosen, tuple(_read_graphs(model)), keys, tokenizer, files)
    (path / MANIFEST).write_text(manifest.to_json(), "utf-8")
    return manifest


def tiny_decoder(manifest: Manifest) -> TinyDecoder:
    """The NumPy oracle with the bundle's weights."""
    return TinyDecoder(manifest.model, random_weights(manifest.model, int(manifest.calibration["seed"])))


def _model(sizes: TinySizes, decoder: TinyDecoder) -> bytes:
    model = FlatModel()
    graphs = TinyGraphs(model, decoder.spec, decoder.weights)
    for chunk in sizes.chunks:
        graphs.fused(f"prefill_{chunk}", chunk)
    graphs.fused("decode", 1)
    graphs.score(sizes.score_rows)
    for chunk in sorted({1, *sizes.chunks}):
        for layer in range(sizes.layers + 1):
            graphs.linear(layer, chunk)
    return model.to_bytes()


def _estimates(spec: ModelSpec, plan: Plan, keys: tuple[EstimateKey, ...]) -> bytes:
    """estimates.zip: bucket 0 with the plan's multiplier, the others with its grid."""
    grid, data = plan.grid, io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for key in keys:
            scales = (1.0, 1.0, 1.0 / plan.estimate_multiplier)
            if key.bucket:
                i, j = grid.pair(key.bucket)
                scales = (grid.q_scales[i], grid.k_scales[j], grid.score_scales[i, j])
            q_shape, k_shape, score_shape = key.shapes(spec)
            model = FlatModel()
            graph = model.graph(key.name)
            q = graph.input("q_i8", q_shape, "int8", scales[0])
            k = graph.input("k_i8", k_shape, "int8", scales[1])
            scores = graph.op("BATCH_MATMUL", [q, k], score_shape, "int8", adjY=True, scale=scales[2])
            graph.finish({"scores_i8": scores})
            entry = zipfile.ZipInfo(f"{key.name}.tflite")  # without the time: the same bundle, the same bytes
            archive.writestr(entry, model.to_bytes())
    return data.getvalue()


def _read_graphs(model: bytes) -> Iterator[Graph]:
    """The manifest's graphs, read back from the flatbuffer."""
    flat = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    for signature in flat.signatureDefs:
        tensors = flat.subgraphs[signature.subgraphIndex].tensors
        name = signature.signatureKey.decode()
        inputs, outputs = (
            {entry.name.decode(): _tensor_info(tensors[entry.tensorIndex]) for entry in entries}
            for entries in (signature.inputs, signature.outputs)
        )
        yield Graph(signature=name, inputs=inputs, outputs=outputs, **parse_signature(name))


def _tensor_info(tensor: schema.TensorT) -> TensorInfo:
    return TensorInfo(_DTYPES[tensor.type], tuple(int(size) for size in tensor.shape))


def _manifest(
    sizes: TinySizes,
    graphs: tuple[Graph, ...],
    keys: tuple[EstimateKey, ...],
    tokenizer: Tokenizer,
    files: Mapping[str, FileInfo],
) -> Manifest:
    return Manifest(
        created_by="tests/runtime/tiny_bundle.py",
        name="tiny",
        source="random numbers",
        licence="Apache-2.0",
        weights="float32",
        model=sizes.spec(),
        max_length=sizes.max_length,
        keep_ratio=sizes.keep_ratio,
        prefill_chunks=sizes.chunks,
        score_rows=sizes.score_rows,
        seq_lens=sizes.seq_lens,
        graphs=graphs,
        estimates=tuple(key.name for key in keys),
        tokenizer=tokenizer,
        calibration={"seed": sizes.seed},
        files=files,
    )
