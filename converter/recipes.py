"""How weights are stored. A recipe's name is the bundle's `weights` field and the flag `--weights`.

int8     every matrix (linear layers, embedding, lm_head) as symmetric INT8 with one scale per output row; LiteRT
quantises
         the activations at run time (dynamic range), so they are balanced first. Norms and biases stay float32.
float32  nothing is quantised.
"""

import dataclasses

import numpy as np

_ROWS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True)
class StoredWeight:
    """A weight as it is stored: data int8 with scale [rows] float32, or data float32 and no scale."""

    data: np.ndarray
    scale: np.ndarray | None = None

    def dequantized(self) -> np.ndarray:
        """The float32 values a graph computes with."""
        if self.scale is None:
            return self.data
        values = self.data.astype(np.float32)
        values *= self.scale[:, None]
        return values


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One way to store weights."""

    name: str
    matrix_bytes: float
    balanced: bool

    def quantizes(self, rank: int) -> bool:
        """Whether a tensor of that rank is stored in INT8."""
        return self.name == "int8" and rank == 2

    def store(self, weight: np.ndarray) -> StoredWeight:
        """weight float32 -> what is written to the file."""
        if self.quantizes(weight.ndim):
            return _quantize_rows(weight)
        return StoredWeight(np.ascontiguousarray(weight, np.float32))


RECIPES = {recipe.name: recipe for recipe in (Recipe("int8", 1.0, True), Recipe("float32", 4.0, False))}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name. Raises ValueError with the names there are."""
    if name not in RECIPES:
        raise ValueError(f"weights must be one of {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[name]


def _quantize_rows(weight: np.ndarray) -> StoredWeight:
    """[rows, columns] float32 -> int8 in -127..127 with scale = max|row| / 127 (1 for a row of zeros).

    Works on blocks of rows: an embedding is the largest weight of a model, and must not be in memory several times.
    """
    data = np.empty(weight.shape, np.int8)
    scale = np.empty(len(weight), np.float32)
    for start in range(0, len(weight), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        largest = np.abs(weight[block]).max(axis=1)
        scale[block] = np.where(largest > 0, largest / np.float32(127), np.float32(1))
        data[block] = np.clip(np.rint(weight[block] / scale[block, None]), -127, 127)
    return StoredWeight(data, scale)
