"""The on-disk bundle: manifest schema and version, reader, writer, and the grammar of signature names.

A bundle is a folder: `manifest.json` (written last), `model.tflite` (all signatures), `plan.bin`, `estimates.zip` (the
estimate graphs of head groups), and the tokenizer's files. docs/bundle_format.md describes every field.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shadowattn.models import estimate_graphs, strict_json
from shadowattn.models import plan as plan_file
from shadowattn.models.estimate_graphs import EstimateKey
from shadowattn.models.spec import MAX_LENGTH, ModelSpec, RopeSpec

FORMAT = "shadowattn-bundle"
VERSION = 3
MANIFEST = "manifest.json"
MODEL = "model.tflite"
TOKENIZER = "tokenizer.json"
CHAT_TEMPLATE = "chat_template.jinja"
_RECIPE = re.compile(r"(int8|float32)(:[a-z0-9_=.,]+)?")  # what it means, converter/recipes.py says
_PLANS = (plan_file.NEXT_FILE_NAME, plan_file.FILE_NAME)

_SIGNATURES = {
    "prefill": re.compile(r"prefill_(?P<chunk>\d+)"),
    "decode": re.compile(r"decode"),
    "score": re.compile(r"score_(?P<chunk>\d+)"),
    "linear": re.compile(r"linear_(?P<layer>\d+)_(?P<chunk>\d+)"),
}


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """One input or output of a graph."""

    dtype: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Graph:
    """One signature of model.tflite. chunk: T (rows of `score`); layer: i of linear_<i>."""

    signature: str
    role: str
    chunk: int
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    layer: int | None = None

    def __post_init__(self) -> None:
        fields = parse_signature(self.signature)
        stated = {"role": self.role, "chunk": self.chunk, "layer": self.layer}
        if fields != stated:
            raise ValueError(f"graph {self.signature!r}: its name says {fields}, its fields {stated}")


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """How text becomes token ids. file None: the bundle takes token ids only. chat_adds_bos: a conversation begins with
    BOS even where the chat template does not write it."""

    file: str | None
    chat_template: str | None
    bos_token_id: int | None
    stop_token_ids: tuple[int, ...]
    special_tokens: Mapping[str, str]
    chat_adds_bos: bool = False


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the model's makers draw its tokens; the defaults take the most likely one."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        _need(0 <= self.temperature < math.inf, f"temperature must be 0 or positive, got {self.temperature}")
        _need(self.top_k >= 0, f"top_k must be 0 (all tokens) or positive, got {self.top_k}")
        _need(0 < self.top_p <= 1, f"top_p must be in (0, 1], got {self.top_p}")
        _need(
            0 < self.repetition_penalty < math.inf,
            f"repetition_penalty must be positive, got {self.repetition_penalty}",
        )


@dataclasses.dataclass(frozen=True)
class FileInfo:
    """Size and SHA-256 of one file of the bundle."""

    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """manifest.json. `source`, `licence`: where the weights come from; `calibration`: what the plan was fitted on;
    keep_ratio: the default of sessions, None for auto; estimates: the graphs in estimates.zip by name; sampling: the
    default of answers."""

    created_by: str
    name: str
    source: str
    licence: str
    weights: str
    model: ModelSpec
    max_length: int
    keep_ratio: float | None
    prefill_chunks: tuple[int, ...]
    score_rows: int
    seq_lens: tuple[int, ...]
    graphs: tuple[Graph, ...]
    estimates: tuple[str, ...]
    tokenizer: Tokenizer
    calibration: Mapping[str, Any]
    files: Mapping[str, FileInfo]
    sampling: Sampling = dataclasses.field(default_factory=Sampling)

    def graph(self, signature: str) -> Graph:
        """The graph of that name. Raises ValueError with the names there are."""
        for graph in self.graphs:
            if graph.signature == signature:
                return graph
        raise ValueError(f"bundle has no graph {signature!r}; it has {', '.join(g.signature for g in self.graphs)}")

    @property
    def plan_file(self) -> str:
        """The name of the plan's file: plan.bin, or plan.next.bin where replacing it was cut short."""
        return next(name for name in _PLANS if name in self.files)

    def estimate_keys(self) -> tuple[EstimateKey, ...]:
        """What is in estimates.zip."""
        return tuple(map(EstimateKey.parse, self.estimates))

    def to_json(self) -> str:
        """The text of manifest.json."""
        body = dataclasses.asdict(self)
        return json.dumps({"format": FORMAT, "version": VERSION, **body}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = MANIFEST) -> "Manifest":
        """Reads and checks manifest.json. Raises ValueError that names `where` and the field."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not valid JSON ({error}); convert the model again") from None
        if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
            raise ValueError(f"{where}: not the manifest of a bundle (wanted format {FORMAT!r})")
        if (version := raw.pop("version", None)) != VERSION:
            older = isinstance(version, int) and version < VERSION
            advice = "convert the model again" if older else "update shadowattn"
            raise ValueError(f"{where}: bundle version {version!r}, wanted {VERSION}; {advice}")
        try:
            manifest = strict_json.build(cls, raw, where, _CONTAINERS)
        except ValueError as error:
            raise ValueError(f"{error}; convert the model again") from None
        _check(manifest, where)
        return manifest


def parse_signature(signature: str) -> dict[str, Any]:
    """Signature name -> role, chunk, layer (None where the role has none). Raises ValueError if unknown."""
    for role, pattern in _SIGNATURES.items():
        if match := pattern.fullmatch(signature):
            found = {key: int(value) for key, value in match.groupdict().items()}
            return {"role": role, "chunk": 1, "layer": None} | found
    raise ValueError(f"signature {signature!r} follows no known pattern ({', '.join(_SIGNATURES)})")


def file_info(path: Path) -> FileInfo:
    """Size and SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileInfo(path.stat().st_size, digest)


def read_manifest(bundle: Path) -> Manifest:
    """Opens a bundle folder: schema checked, every file there with its stated size. Raises ValueError."""
    path = bundle / MANIFEST
    if not os.path.isfile(path):  # which is False, and no error, for a name that is too long
        raise ValueError(_why_no_bundle(bundle))
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; convert the model again") from None
    manifest = Manifest.from_json(text, str(path))
    for name, info in manifest.files.items():
        file = bundle / name
        if not file.is_file():
            raise ValueError(f"{bundle}: {name} is missing; convert the model again")
        if file.stat().st_size != info.bytes:
            raise ValueError(
                f"{file}: expected {info.bytes} bytes, got {file.stat().st_size}; the file was changed or truncated, "
                "convert the model again"
            )
    return manifest


def _why_no_bundle(bundle: Path) -> str:
    if not os.path.isfile(bundle):
        return f"{bundle}: not a bundle, {MANIFEST} is missing; make one with `shadowattn convert`"
    if os.path.isfile(bundle.parent / MANIFEST):
        return f"{bundle}: one file of a bundle, wanted its folder; give {bundle.parent}"
    return f"{bundle}: not a bundle but a file, wanted a folder with {MANIFEST}; make one with `shadowattn convert`"


def verify(bundle: Path, manifest: Manifest) -> list[str]:
    """Full hashes: one sentence for every file that differs from the manifest (empty: all are as written)."""
    problems = []
    for name, info in manifest.files.items():
        found = file_info(bundle / name)
        if found.sha256 != info.sha256:
            problems.append(f"{bundle / name}: SHA-256 is {found.sha256}, the manifest says {info.sha256}")
    return problems


def _check(manifest: Manifest, where: str) -> None:
    """What the types alone do not say. Raises ValueError that begins with `where`."""
    try:
        _check_sizes(manifest)
        _check_graphs(manifest)
        _check_estimates(manifest)
    except ValueError as error:
        raise ValueError(f"{where}: {error}; convert the model again") from None


def _need(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


def _check_sizes(manifest: Manifest) -> None:
    named = isinstance(manifest.weights, str) and _RECIPE.fullmatch(manifest.weights)
    _need(bool(named), f"weights must be int8 or float32, with settings behind a colon, got {manifest.weights!r:.60}")
    ratio_fits = manifest.keep_ratio is None or 0 < manifest.keep_ratio <= 1
    _need(ratio_fits, f"keep_ratio must be null (auto) or in (0, 1], got {manifest.keep_ratio}")
    _need(1 <= manifest.max_length <= MAX_LENGTH, f"max_length must be in 1..{MAX_LENGTH}, got {manifest.max_length}")
    _need(manifest.score_rows >= 1, f"score_rows must be positive, got {manifest.score_rows}")
    for label, sizes in (("prefill_chunks", manifest.prefill_chunks), ("seq_lens", manifest.seq_lens)):
        _need(bool(sizes), f"{label} is empty")
        _need(sizes == tuple(sorted(set(sizes))) and sizes[0] >= 1, f"{label} must ascend from 1 or more, got {sizes}")
    longest = manifest.seq_lens[-1]
    _need(manifest.max_length <= longest, f"max_length {manifest.max_length} is above the last of seq_lens, {longest}")
    _need(MODEL in manifest.files, f"files lacks {MODEL}")
    _need(any(name in manifest.files for name in _PLANS), f"files lacks {plan_file.FILE_NAME}")
    for name in manifest.files:
        _need(Path(name).name == name and name not in ("", ".", ".."), f"file name {name!r} leaves the bundle")
    adds_bos = manifest.tokenizer.chat_adds_bos
    _need(not adds_bos or manifest.tokenizer.bos_token_id is not None, "tokenizer.chat_adds_bos needs a bos_token_id")
    for label, file in (("file", manifest.tokenizer.file), ("chat_template", manifest.tokenizer.chat_template)):
        _need(file is None or file in manifest.files, f"tokenizer.{label} {file!r} is not in files")


def _check_graphs(manifest: Manifest) -> None:
    names = {graph.signature for graph in manifest.graphs}
    _need(len(names) == len(manifest.graphs), "two graphs have the same signature")
    for name in _needed_graphs(manifest):
        _need(name in names, f"graph {name!r} is missing")
    layers = manifest.model.num_layers
    for graph in manifest.graphs:
        _need((graph.layer or 0) <= layers, f"graph {graph.signature!r} is of a layer that the model's {layers} lack")
        for name, tensor in (*graph.inputs.items(), *graph.outputs.items()):
            _check_shape(manifest.model, f"{graph.signature}: {name}", name, tensor.shape)


def _check_estimates(manifest: Manifest) -> None:
    has_file = estimate_graphs.FILE_NAME in manifest.files
    _need(has_file == bool(manifest.estimates), f"estimates and the file {estimate_graphs.FILE_NAME} go together")
    _need(len(set(manifest.estimates)) == len(manifest.estimates), "estimates names a graph twice")
    for key in manifest.estimate_keys():
        fits = key.chunk in manifest.prefill_chunks and key.seq_len in manifest.seq_lens
        _need(fits, f"estimate {key.name!r} is of a chunk or a bucket length that the bundle has not")
        key.shapes(manifest.model)


def _check_shape(model: ModelSpec, where: str, name: str, shape: tuple[int, ...]) -> None:
    """Sizes are positive, and the last ones are the model's."""
    narrow = (model.num_kv_heads, model.head_dim)
    ends: dict[str, tuple[int, ...]] = {
        "logits": (model.vocab_size,),
        "hidden": (model.hidden_size,),
        "residual": (model.hidden_size,),
        "q": (model.num_heads, model.head_dim),
        "k": narrow,
        "v": narrow,
    }
    wanted = ends.get(name, ())
    _need(all(size >= 1 for size in shape), f"{where} has the shape {shape}, sizes must be positive")
    _need(shape[len(shape) - len(wanted) :] == wanted, f"{where} has the shape {shape}, the model's ends in {wanted}")


def _needed_graphs(manifest: Manifest) -> list[str]:
    """Every signature that must be there: the fused graphs, score, and all linear graphs if there is any of them."""
    ladder = manifest.prefill_chunks
    wanted = ["decode", *(f"prefill_{chunk}" for chunk in ladder), f"score_{manifest.score_rows}"]
    if any(graph.role == "linear" for graph in manifest.graphs):
        for chunk in sorted({1, *ladder}):
            wanted += [f"linear_{layer}_{chunk}" for layer in range(manifest.model.num_layers + 1)]
    return wanted


_CONTAINERS: strict_json.FieldTypes = {
    (TensorInfo, "shape"): (tuple, int),
    (Graph, "inputs"): (dict, TensorInfo),
    (Graph, "outputs"): (dict, TensorInfo),
    (Tokenizer, "stop_token_ids"): (tuple, int),
    (Tokenizer, "special_tokens"): (dict, str),
    (ModelSpec, "rope"): RopeSpec,
    (Manifest, "model"): ModelSpec,
    (Manifest, "prefill_chunks"): (tuple, int),
    (Manifest, "seq_lens"): (tuple, int),
    (Manifest, "graphs"): (tuple, Graph),
    (Manifest, "estimates"): (tuple, str),
    (Manifest, "tokenizer"): Tokenizer,
    (Manifest, "calibration"): (dict, Any),
    (Manifest, "files"): (dict, FileInfo),
    (Manifest, "sampling"): Sampling,
}
