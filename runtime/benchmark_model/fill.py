"""Values for the inputs: a file's, or random ones of the stock tool's ranges."""

from collections.abc import Sequence

import numpy as np

from shadowattn.runtime.benchmark_model.arguments import InputLayer
from shadowattn.runtime.benchmark_model.graph import Input

_SEED = 0  # the stock tool takes a new one every time; here two runs give the same inputs
# Stock ranges of integers, both ends included; every other integer type is filled with zeros.
_SPANS = {"int64": (0, 99), "uint64": (0, 99), "int32": (0, 99), "uint32": (0, 99), "uint8": (0, 254),
          "int8": (-127, 127), "bool": (0, 1)}  # fmt: skip


def fill_inputs(inputs: Sequence[Input], layers: Sequence[InputLayer | None]) -> dict[str, np.ndarray]:
    """A value for every input. Raises ValueError."""
    random = np.random.default_rng(_SEED)
    return {entry.name: _fill(entry, layer, random) for entry, layer in zip(inputs, layers, strict=True)}


def _fill(entry: Input, layer: InputLayer | None, random: np.random.Generator) -> np.ndarray:
    if layer is not None and layer.file is not None:
        return _read(entry, layer)
    span = layer.span if layer is not None else None
    if entry.dtype.kind in "fc":
        low, high = span or (-0.5, 0.5)
        return random.uniform(low, high, entry.shape).astype(entry.dtype)
    low, high = span or _SPANS.get(entry.dtype.name, (0, 0))
    bounds = (0, 1) if entry.dtype.kind == "b" else (np.iinfo(entry.dtype).min, np.iinfo(entry.dtype).max)
    if low < bounds[0] or high > bounds[1]:
        raise ValueError(
            f"--input_layer_value_range: {entry.name} is {entry.dtype}, which holds {bounds[0]} to {bounds[1]}, "
            f"got {low} to {high}"
        )
    kind = np.uint64 if low >= 0 else np.int64
    return random.integers(low, high, entry.shape, dtype=kind, endpoint=True).astype(entry.dtype)


def _read(entry: Input, layer: InputLayer) -> np.ndarray:
    """The bytes of the tensor as they are."""
    assert layer.file is not None
    wanted = int(np.prod(entry.shape)) * entry.dtype.itemsize
    try:
        data = layer.file.read_bytes()
    except OSError as error:
        raise ValueError(f"--input_layer_value_files: {layer.file}: {error.strerror or error}") from None
    if len(data) != wanted:
        raise ValueError(
            f"--input_layer_value_files: {layer.file} has {len(data)} bytes, {entry.name} ({entry.dtype} "
            f"{list(entry.shape)}) wants {wanted}; write the array's bytes and nothing else"
        )
    return np.frombuffer(data, entry.dtype).reshape(entry.shape)
