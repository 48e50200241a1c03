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
_COPIES_OF_MOMENTS = 5  # of the widest input: as measured, ordered, damped, and two factors
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


def peak_memory_bytes(spec: ModelSpec, file_bytes: int, compensates: bool) -> int:
    """Memory at the peak of a conversion: the larger of converting or rounding one layer, and of packing the file."""
    embedding = 4 * spec.vocab_size * spec.hidden_size
    layer = 4 * (spec.num_parameters - embedding // 4) // spec.num_layers
    moments = 4 * max(spec.hidden_size, spec.intermediate_size) ** 2 if compensates else 0
    rounding = _COPIES_OF_A_LAYER * layer + _COPIES_OF_MOMENTS * moments
    return _TOOLCHAIN + max(rounding, file_bytes + _COPIES_OF_AN_EMBEDDING * embedding)


def check_resources(
    spec: ModelSpec, recipe: Recipe, graphs: tuple[Graph, ...], folder: Path, compensates: bool = False
) -> None:
    """Raises ValueError if the file would be too large, or the disk at `folder` or the memory too small.

    compensates: whether layers are rounded one by one (converter/rounded_layers.py).
    """
    size = model_file_bytes(spec, recipe, graphs)
    if size > FILE_LIMIT:
        hint = "use --weights=int8" if recipe.bits > 8 else "choose a smaller model"
        raise ValueError(
            f"the model would take {_gib(size)} as {recipe.name}, above the 2 GiB that one LiteRT file can hold; {hint}"
        )
    needed = size + _OTHER_FILES + (size if compensates else 0)  # rounded layers lie there until the file is written
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"{folder}: the bundle needs {_gib(needed)} of disk, {_gib(free)} are free; "
            "free some space or choose another output"
        )
    memory, available = peak_memory_bytes(spec, size, compensates), available_memory_bytes()
    if available is not None and available < memory:
        raise ValueError(
            f"converting needs about {_gib(memory)} of memory, {_gib(available)} are available; "
            "close other programs or convert on a larger machine"
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
