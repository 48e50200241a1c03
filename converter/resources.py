"""What a conversion will need (file size, disk, memory), estimated and checked before work begins."""

import shutil
from pathlib import Path

from shadowattn.converter.flatbuffer import FILE_LIMIT
from shadowattn.converter.recipes import Recipe
from shadowattn.models.bundle import Graph
from shadowattn.models.memory import available_memory_bytes
from shadowattn.models.spec import ModelSpec

_BYTES_PER_OPERATOR = 400
_OPERATORS_PER_LAYER = 45
_OTHER_FILES = 64 << 20
_TOOLCHAIN = 1200 << 20  # torch, transformers and the LiteRT converter, loaded
_COPIES_OF_A_LAYER = 6  # of its float32 weights, at the peak of the torch conversion
_COPIES_OF_AN_EMBEDDING = 2  # float32: as read, and while it is quantised or verified


def model_file_bytes(spec: ModelSpec, recipe: Recipe, graphs: tuple[Graph, ...]) -> int:
    """Size of model.tflite, from above within a few percent."""
    rows = 2 * spec.vocab_size + spec.num_layers * (
        (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim + 2 * spec.hidden_size + 2 * spec.intermediate_size
    )
    scales = 12 * rows if recipe.bits == 8 else 0
    layers = sum(spec.num_layers if graph.role in ("prefill", "decode") else 1 for graph in graphs)
    structure = layers * _OPERATORS_PER_LAYER * _BYTES_PER_OPERATOR
    turned = 4 * spec.hidden_size**2 if recipe.rotated and spec.tied_embeddings else 0
    return int(spec.num_parameters * recipe.matrix_bytes) + scales + structure + turned


def peak_memory_bytes(spec: ModelSpec, file_bytes: int) -> int:
    """Memory at the peak of a conversion: the larger of converting one layer, and of packing the file."""
    embedding = 4 * spec.vocab_size * spec.hidden_size
    layer = 4 * (spec.num_parameters - embedding // 4) // spec.num_layers
    return _TOOLCHAIN + max(_COPIES_OF_A_LAYER * layer, file_bytes + _COPIES_OF_AN_EMBEDDING * embedding)


def check_resources(spec: ModelSpec, recipe: Recipe, graphs: tuple[Graph, ...], folder: Path) -> None:
    """Raises ValueError if the file would be too large, or the disk at `folder` or the memory too small."""
    size = model_file_bytes(spec, recipe, graphs)
    if size > FILE_LIMIT:
        hint = "use --weights=int8" if recipe.bits > 8 else "choose a smaller model"
        raise ValueError(
            f"the model would take {_gib(size)} as {recipe.name}, above the 2 GiB that one LiteRT file can hold; {hint}"
        )
    free = shutil.disk_usage(folder).free
    if free < size + _OTHER_FILES:
        raise ValueError(
            f"{folder}: the bundle needs {_gib(size + _OTHER_FILES)} of disk, {_gib(free)} are free; "
            "free some space or choose another output"
        )
    memory, available = peak_memory_bytes(spec, size), available_memory_bytes()
    if available is not None and available < memory:
        raise ValueError(
            f"converting needs about {_gib(memory)} of memory, {_gib(available)} are available; "
            "close other programs or convert on a larger machine"
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
