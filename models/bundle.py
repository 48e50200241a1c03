"""The on-disk bundle: manifest schema and version, reader, writer, and the grammar of signature names.

A bundle is a folder: `manifest.json` (written last), `model.tflite` (all signatures), `plan.bin`, and the tokenizer's
files. docs/bundle_format.md describes every field.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shadowattn.models import plan as plan_file
from shadowattn.models import strict_json
from shadowattn.models.spec import ModelSpec, RopeSpec

FORMAT = "shadowattn-bundle"
VERSION = 1
MANIFEST = "manifest.json"
MODEL = "model.tflite"
TOKENIZER = "tokenizer.json"
CHAT_TEMPLATE = "chat_template.jinja"

ROLES = ("prefill", "decode", "score", "linear", "kv_append", "estimate", "attend")
_SIGNATURES = {
    "prefill": re.compile(r"prefill_(?P<chunk>\d+)"),
    "decode": re.compile(r"decode"),
    "score": re.compile(r"score_(?P<chunk>\d+)"),
    "linear": re.compile(r"linear_(?P<layer>\d+)_(?P<chunk>\d+)"),
    "kv_append": re.compile(r"kv_append_(?P<chunk>\d+)_(?P<seq_len>\d+)"),
    "estimate": re.compile(r"estimate_(?P<chunk>\d+)_(?P<seq_len>\d+)"),
    "attend": re.compile(r"attend_(?P<chunk>\d+)_(?P<seq_len>\d+)"),
}


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """One input or output of a graph; scale is set for statically quantised tensors only."""

    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None


@dataclasses.dataclass(frozen=True)
class Graph:
    """One signature of model.tflite. chunk: T (rows of `score`); seq_len: S; layer: i of linear_<i>."""

    signature: str
    role: str
    chunk: int
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    seq_len: int | None = None
    layer: int | None = None

    def __post_init__(self) -> None:
        fields = parse_signature(self.signature)
        stated = {"role": self.role, "chunk": self.chunk, "seq_len": self.seq_len, "layer": self.layer}
        if fields != stated:
            raise ValueError(f"graph {self.signature!r}: its name says {fields}, its fields {stated}")


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """How text becomes token ids. file None: the bundle takes token ids only."""

    file: str | None
    chat_template: str | None
    bos_token_id: int | None
    stop_token_ids: tuple[int, ...]
    special_tokens: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class FileInfo:
    """Size and SHA-256 of one file of the bundle."""

    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """manifest.json. `source`, `licence`: where the weights come from; `calibration`: what the plan was fitted on."""

    created_by: str
    name: str
    source: str
    licence: str
    weights: str
    model: ModelSpec
    max_length: int
    keep_ratio: float
    prefill_chunks: tuple[int, ...]
    score_rows: int
    seq_lens: tuple[int, ...]
    graphs: tuple[Graph, ...]
    tokenizer: Tokenizer
    calibration: Mapping[str, Any]
    files: Mapping[str, FileInfo]

    def graph(self, signature: str) -> Graph:
        """The graph of that name. Raises ValueError with the names there are."""
        for graph in self.graphs:
            if graph.signature == signature:
                return graph
        raise ValueError(f"bundle has no graph {signature!r}; it has {', '.join(g.signature for g in self.graphs)}")

    def to_json(self) -> str:
        """The text of manifest.json."""
        body = dataclasses.asdict(self)
        return json.dumps({"format": FORMAT, "version": VERSION, **body}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = MANIFEST) -> "Manifest":
        """Reads and checks manifest.json. Raises ValueError that names `where` and the field."""
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not valid JSON ({error}); convert the model again") from None
        if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
            raise ValueError(f"{where}: not the manifest of a bundle (wanted format {FORMAT!r})")
        if (version := raw.pop("version", None)) != VERSION:
            raise ValueError(f"{where}: version {version!r} is not {VERSION}; update shadowattn or convert anew")
        manifest = strict_json.build(cls, raw, where, _CONTAINERS)
        _check(manifest, where)
        return manifest


def parse_signature(signature: str) -> dict[str, Any]:
    """Signature name -> role, chunk, seq_len, layer (None where the role has none). Raises ValueError if unknown."""
    for role, pattern in _SIGNATURES.items():
        if match := pattern.fullmatch(signature):
            found = {key: int(value) for key, value in match.groupdict().items()}
            return {"role": role, "chunk": 1, "seq_len": None, "layer": None} | found
    raise ValueError(f"signature {signature!r} follows no known pattern ({', '.join(_SIGNATURES)})")


def file_info(path: Path) -> FileInfo:
    """Size and SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileInfo(path.stat().st_size, digest)


def read_manifest(bundle: Path) -> Manifest:
    """Opens a bundle folder: schema checked, every file there with its stated size. Raises ValueError."""
    path = bundle / MANIFEST
    if not path.is_file():
        raise ValueError(f"{bundle}: not a bundle, {MANIFEST} is missing; make one with `shadowattn convert`")
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


def verify(bundle: Path, manifest: Manifest) -> list[str]:
    """Full hashes: one sentence for every file that differs from the manifest (empty: all are as written)."""
    problems = []
    for name, info in manifest.files.items():
        found = file_info(bundle / name)
        if found.sha256 != info.sha256:
            problems.append(f"{bundle / name}: SHA-256 is {found.sha256}, the manifest says {info.sha256}")
    return problems


def _check(manifest: Manifest, where: str) -> None:
    """What the types alone do not say."""

    def need(ok: bool, message: str) -> None:
        if not ok:
            raise ValueError(f"{where}: {message}; convert the model again")

    need(manifest.weights in ("int8", "float32"), f"weights must be int8 or float32, got {manifest.weights!r}")
    need(0 < manifest.keep_ratio <= 1, f"keep_ratio must be in (0, 1], got {manifest.keep_ratio}")
    need(manifest.max_length >= 1, f"max_length must be positive, got {manifest.max_length}")
    need(bool(manifest.prefill_chunks), "prefill_chunks is empty")
    ladder = manifest.prefill_chunks
    need(ladder == tuple(sorted(set(ladder))) and ladder[0] >= 1, f"prefill_chunks must ascend, got {ladder}")
    for name in (MODEL, plan_file.FILE_NAME):
        need(name in manifest.files, f"files lacks {name}")
    for name in manifest.files:
        need(Path(name).name == name and name not in ("", ".", ".."), f"file name {name!r} leaves the bundle")
    names = [graph.signature for graph in manifest.graphs]
    need(len(names) == len(set(names)), "two graphs have the same signature")
    for name in ("decode", *(f"prefill_{chunk}" for chunk in ladder)):
        need(name in names, f"graph {name!r} is missing")
    for label, file in (("file", manifest.tokenizer.file), ("chat_template", manifest.tokenizer.chat_template)):
        need(file is None or file in manifest.files, f"tokenizer.{label} {file!r} is not in files")


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
    (Manifest, "tokenizer"): Tokenizer,
    (Manifest, "calibration"): (dict, Any),
    (Manifest, "files"): (dict, FileInfo),
}
