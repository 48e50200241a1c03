"""GGUF files as they lie on disk: which are readable, the parts of a split model, the table of tensors."""

import dataclasses
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf

from shadowattn.converter.model_files import check_file

# Every type here is dequantised by the gguf package; docs/converter.md lists them.
READABLE_TYPES = (
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
    "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4",
)  # fmt: skip

_VERSIONS = (2, 3)
_OLDER_MAGICS = (b"lmgg", b"fmgg", b"tjgg", b"algg")  # GGML, GGMF, GGJT, GGLA: little-endian words
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
_TYPE = re.compile(r"(\d+)\)? is not a valid GGMLQuantizationType")
_FIELD = re.compile(r"(\d+)\)? is not a valid GGUFValueType|field type (\w+)")


@dataclasses.dataclass(frozen=True)
class GgufFile:
    """metadata: scalars and strings as Python values, arrays as the package's fields; tensors: of every part."""

    metadata: Mapping[str, Any]
    tensors: tuple[Any, ...]


def read_gguf(path: Path) -> GgufFile:
    """Reads headers (the file is memory-mapped) of the file, and of the parts that follow if it is the first of some.

    Raises ValueError that says what the file is instead of a readable model.
    """
    first = _open(path)
    metadata = {name: _value(field) for name, field in first.fields.items()}
    _refuse_other_kinds(path, metadata)
    tensors = [*first.tensors, *(tensor for part in _following(path, metadata) for tensor in part.tensors)]
    _check_parts(path, metadata, tensors)
    for tensor in tensors:
        if tensor.tensor_type.name not in READABLE_TYPES:
            raise ValueError(
                f"{path}: tensor {tensor.name} has the type {tensor.tensor_type.name}, which cannot be read; "
                f"readable are {', '.join(READABLE_TYPES)}"
            )
    return GgufFile(metadata, tuple(tensors))


def name_of(path: Path) -> str:
    """The file's name without its ending, and without the number of a part."""
    part = _PART.fullmatch(path.name)
    return part[1] if part else path.stem


def _following(path: Path, metadata: Mapping[str, Any]) -> list[gguf.GGUFReader]:
    """The other parts of a split model."""
    count = metadata.get("split.count", 1)
    if not isinstance(count, int) or count <= 1:
        return []
    names = _PART.fullmatch(path.name)
    if names is None or int(names[3]) != count:
        raise ValueError(
            f"{path}: one of {count} parts of a model, and its name says otherwise; wanted "
            f"NAME-00001-of-{count:05}.gguf and the rest beside it"
        )
    parts = [path.with_name(f"{names[1]}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    if metadata.get("split.no") != 0:
        raise ValueError(f"{path}: part {names[2]} of {count} of a model; give the first, {parts[0].name}")
    readers = []
    for number, part in enumerate(parts[1:], 1):
        check_file(part, f", though {path.name} is one of {count} parts")
        reader = _open(part)
        field = reader.fields.get("split.no")
        if field is None or field.contents() != number:
            raise ValueError(f"{part}: not part {number + 1} of this model (split.no is another); get the file again")
        readers.append(reader)
    return readers


def _check_parts(path: Path, metadata: Mapping[str, Any], tensors: list[Any]) -> None:
    if not tensors:
        raise ValueError(f"{path}: a GGUF file without weights, as one with a vocabulary alone; wanted a whole model")
    names = [tensor.name for tensor in tensors]
    wanted = metadata.get("split.tensors.count", len(names))
    if len(set(names)) != len(names) or wanted != len(names):
        raise ValueError(
            f"{path}: its parts hold {len(set(names))} different tensors, wanted {wanted}; get all parts of one model"
        )


def _open(path: Path) -> gguf.GGUFReader:
    check_file(path)
    _check_start(path)
    try:
        reader = gguf.GGUFReader(path)
    except Exception as error:  # the reader raises whatever its parsing runs into
        raise ValueError(f"{path}: {_why_unreadable(error)}") from None
    end = max((int(tensor.data_offset) + int(tensor.n_bytes) for tensor in reader.tensors), default=0)
    if end > path.stat().st_size:
        raise ValueError(
            f"{path}: the GGUF file is truncated: {end} bytes are described, {path.stat().st_size} are there; "
            "get it again"
        )
    return reader


def _check_start(path: Path) -> None:
    """Magic, version and byte order."""
    with path.open("rb") as file:
        start = file.read(8)
    if start[:4] in _OLDER_MAGICS:
        raise ValueError(f"{path}: a GGML file from before GGUF; get the model as GGUF version 2 or 3")
    if start[:4] != b"GGUF":
        folder = ", or the folder of this file" if path.suffix in (".safetensors", ".json", ".bin") else ""
        raise ValueError(
            f"{path}: not a GGUF file (it starts with {start[:4]!r}); wanted a GGUF file or a model directory{folder}"
        )
    if len(start) < 8:
        raise ValueError(f"{path}: the GGUF file is truncated: {len(start)} bytes are there; get it again")
    little, big = struct.unpack("<I", start[4:])[0], struct.unpack(">I", start[4:])[0]
    if little & 0xFFFF == 0 and big in _VERSIONS:
        raise ValueError(
            f"{path}: a big-endian GGUF file, wanted little-endian; use `gguf-convert-endian COPY little` on a copy"
        )
    if little not in _VERSIONS:
        raise ValueError(
            f"{path}: GGUF version {little} is not supported; wanted 2 or 3, get the model as one of those"
        )


def _why_unreadable(error: Exception) -> str:
    text = str(error)
    if found := _TYPE.search(text):
        return f"a tensor has the type number {found[1]}, which is not known; readable are {', '.join(READABLE_TYPES)}"
    if found := _FIELD.search(text):
        return f"a metadata value has the type {found[1] or found[2]}, which GGUF does not know; get the file again"
    return f"the GGUF file is truncated or damaged ({type(error).__name__}: {text:.120}); get it again"


def _refuse_other_kinds(path: Path, metadata: Mapping[str, Any]) -> None:
    """general.type: model, adapter, mmproj, imatrix."""
    kind = metadata.get("general.type", "model")
    if kind != "model":
        hint = "merge it into its model first" if kind == "adapter" else "give the file of the model itself"
        raise ValueError(f"{path}: a GGUF file of the type {kind!r:.60}, wanted a model; {hint}")


def _value(field: Any) -> Any:
    """Scalars and strings as Python values; arrays stay unread until asked for (a vocabulary is large)."""
    if field.types and field.types[0] == gguf.GGUFValueType.ARRAY:
        return field
    return field.contents()
