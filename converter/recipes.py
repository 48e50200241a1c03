"""How weights are stored. A recipe's name is the bundle's `weights` field and the flag `--weights`.

    recipe  = format [ ":" setting { "," setting } ]
    format  = "int8" | "float32"
    setting = "rotate=" ( "on" | "off" )

int8     every matrix (linear layers, embedding, lm_head) as symmetric INT8 with one scale per output row; LiteRT
quantises the activations at run time (dynamic range), so the model is rotated first (converter/rotation.py) unless
rotate=off. Norms and biases stay float32.
float32  nothing is quantised, nor rotated unless rotate=on.
"""

import dataclasses

import numpy as np

from shadowattn.converter.weight_names import HEAD_ROTATION

# quick: INT8 weights are rounded to the nearest. default: so that errors compensate (converter/rounding.py).
EFFORTS = ("quick", "default")

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
    """One way to store weights. bits: 8 or 32 of an element of a matrix."""

    bits: int
    rotated: bool

    @property
    def name(self) -> str:
        """As parse_recipe reads it, with what differs from the format's own setting."""
        plain = _FORMATS_BY_BITS[self.bits]
        return plain if self == _FORMATS[plain] else f"{plain}:rotate={_SWITCH[self.rotated]}"

    @property
    def matrix_bytes(self) -> float:
        """Bytes of an element of a matrix."""
        return self.bits / 8

    def quantizes(self, name: str, rank: int) -> bool:
        """Whether the tensor of that name and rank is stored in INT8."""
        return self.bits == 8 and rank == 2 and name != HEAD_ROTATION

    def store(self, name: str, weight: np.ndarray) -> StoredWeight:
        """weight float32 -> what is written to the file, rounded to the nearest."""
        if self.quantizes(name, weight.ndim):
            return _quantize_rows(weight)
        return StoredWeight(np.ascontiguousarray(weight, np.float32))


_FORMATS = {"int8": Recipe(8, True), "float32": Recipe(32, False)}
_FORMATS_BY_BITS = {recipe.bits: name for name, recipe in _FORMATS.items()}
_SWITCH = {True: "on", False: "off"}


def parse_recipe(text: str) -> Recipe:
    """The recipe that the text names. Raises ValueError with what may be said."""
    plain, colon, settings = text.partition(":")
    if plain not in _FORMATS:
        raise ValueError(f"weights must be {' or '.join(_FORMATS)}, got {text!r:.60}")
    recipe = _FORMATS[plain]
    for setting in settings.split(",") if colon else ():
        key, _, value = setting.partition("=")
        if key != "rotate" or value not in _SWITCH.values():
            raise ValueError(f"weights {text!r:.60}: wanted rotate=on or rotate=off, got {setting!r:.60}")
        recipe = dataclasses.replace(recipe, rotated=value == _SWITCH[True])
    return recipe


def row_scales(weight: np.ndarray) -> np.ndarray:
    """weight [rows,columns] -> scale [rows] float32 = max|row| / 127; 1 for a row of zeros."""
    largest = np.abs(weight).max(axis=1)
    return np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)


def _quantize_rows(weight: np.ndarray) -> StoredWeight:
    """[rows, columns] float32 -> int8 in -127..127 with row_scales.

    Works on blocks of rows: an embedding is the largest weight of a model, and must not be in memory several times.
    """
    data = np.empty(weight.shape, np.int8)
    scale = np.empty(len(weight), np.float32)
    for start in range(0, len(weight), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        scale[block] = row_scales(weight[block])
        data[block] = np.clip(np.rint(weight[block] / scale[block, None]), -127, 127)
    return StoredWeight(data, scale)
