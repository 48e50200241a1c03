"""The safetensors of a Hugging Face directory: which files count, what they hold, and their values as float32.

What the files hold is taken from their own headers; an index only says which files to open, as in transformers.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch

from shadowattn.converter.checkpoint import Shape, finite
from shadowattn.converter.json_files import read_json
from shadowattn.converter.model_files import check_file, refuse_dangling

_FLOATS = ("F64", "F32", "F16", "BF16")
_WITH_SCALE = ("F8_E4M3", "F8_E5M2")  # each weight has a tensor of scales beside it
_SCALES = ("weight_scale_inv", "weight_scale")  # both multiply: the first is DeepSeek's name, for blocks
_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
_ROWS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True)
class _Stored:
    """Where a tensor is, and its name there."""

    file: Path
    name: str
    dtype: str
    shape: Shape


class WeightFiles:
    """Every tensor of a folder. Reads headers only; raises ValueError for a file that is missing or damaged.

    block: rows and columns that share one scale where scales are given for blocks.
    """

    def __init__(self, folder: Path, explicit: Any, block: tuple[int, int]) -> None:
        files, self._promised = _find(folder, explicit)
        self._block = block
        self._tensors: dict[str, _Stored] = {}
        for file in files:
            self._tensors |= _headers(file)
        self._scales: dict[str, str] = {}
        self._add_prefix()
        self._scales = {name: scale for name in self._tensors if (scale := self._scale_of(name)) is not None}
        for name, stored in self._tensors.items():
            if name.startswith(("model.", "lm_head.")):
                self._refuse_unreadable(name, stored)

    def shapes(self) -> dict[str, Shape]:
        """Every tensor that is no scale of another."""
        scales = set(self._scales.values())
        return {name: stored.shape for name, stored in self._tensors.items() if name not in scales}

    def rename(self, old: str, new: str) -> None:
        """Gives a tensor another name."""
        self._tensors[new] = self._tensors.pop(old)
        if old in self._scales:
            self._scales[new] = self._scales.pop(old)

    def not_there(self, name: str) -> str | None:
        """The sentence about a tensor that the index puts into a file without it; None if the index does not."""
        file = self._promised.get(name)
        if file is None:
            return None
        return f"{file}: weight {name} is not in it, though the index says so; get the file again"

    def read(self, name: str) -> np.ndarray:
        """float32 values. Raises ValueError that names file and tensor."""
        stored = self._tensors[name]
        weight = self._tensor(name)
        if name in self._scales:
            weight = weight * self._spread(name, stored)
        return finite(weight.numpy(), f"{stored.file}: weight {name}")

    def equal(self, first: str, second: str) -> bool:
        """Whether two tensors hold the same values; they are compared some rows at a time."""
        one, other = self._tensors[first], self._tensors[second]
        if one.shape != other.shape:
            return False
        if first in self._scales or second in self._scales:
            return np.array_equal(self.read(first), self.read(second))
        with _open(one.file) as left, _open(other.file) as right:
            a, b = left.get_slice(one.name), right.get_slice(other.name)
            starts = range(0, one.shape[0], _ROWS_AT_ONCE)
            return all(torch.equal(a[i : i + _ROWS_AT_ONCE].float(), b[i : i + _ROWS_AT_ONCE].float()) for i in starts)

    def _add_prefix(self) -> None:
        """A model that was saved without its head names its weights without `model.`; transformers adds it too."""
        if "embed_tokens.weight" in self._tensors and "model.embed_tokens.weight" not in self._tensors:
            for name in [name for name in self._tensors if name.startswith(("embed_tokens.", "layers.", "norm."))]:
                self.rename(name, f"model.{name}")

    def _tensor(self, name: str) -> torch.Tensor:
        stored = self._tensors[name]
        try:
            with safetensors.safe_open(stored.file, framework="pt") as opened:
                return opened.get_tensor(stored.name).float()
        except (safetensors.SafetensorError, OSError) as error:
            raise ValueError(
                f"{stored.file}: weight {stored.name} cannot be read ({error}); get the file again"
            ) from None

    def _scale_of(self, name: str) -> str | None:
        if self._tensors[name].dtype not in _WITH_SCALE or not name.endswith(".weight"):
            return None
        stem = name.removesuffix("weight")
        return next((stem + scale for scale in _SCALES if stem + scale in self._tensors), None)

    def _spread(self, name: str, stored: _Stored) -> torch.Tensor:
        """The scales of a tensor, so that they can be multiplied with it."""
        scale = self._tensor(self._scales[name])
        rows, columns = stored.shape[0], stored.shape[-1]
        if scale.numel() == 1:
            return scale.reshape(())
        if scale.shape in ((rows,), (rows, 1)):
            return scale.reshape(rows, 1)
        high, wide = self._block
        if len(stored.shape) != 2 or scale.shape != (-(-rows // high), -(-columns // wide)):
            raise ValueError(
                f"{stored.file}: weight {name} {stored.shape} has scales {tuple(scale.shape)}; wanted one, or one per "
                f"row or per block of {high} x {wide}, get the model's unquantised files"
            )
        return scale.repeat_interleave(high, 0).repeat_interleave(wide, 1)[:rows, :columns]

    def _refuse_unreadable(self, name: str, stored: _Stored) -> None:
        scale = self._scales.get(name)
        zero_point = name.removesuffix("weight") + "weight_zero_point"
        if stored.dtype in _FLOATS:
            return
        if scale is not None and self._tensors[scale].dtype in _FLOATS and zero_point not in self._tensors:
            return
        raise ValueError(
            f"{stored.file}: weight {name} is {stored.dtype}; wanted float32, float16 or bfloat16, or FP8 with its "
            "scales, get the model's unquantised files"
        )


def _find(folder: Path, explicit: Any) -> tuple[list[Path], dict[str, Path]]:
    """The files that count, and tensor -> file as the index says. explicit: what config.json names, if it does."""
    if explicit is not None:
        name = _plain_name(explicit, f"{folder / 'config.json'}: transformers_weights is")
        return _of_index(folder, name) if name.endswith(".json") else ([folder / name], {})
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE], {}
    if (folder / _INDEX).is_file():
        return _of_index(folder, _INDEX)
    for name in (_SINGLE, _INDEX):
        refuse_dangling(folder / name)
    shards = {file: match for file in folder.iterdir() if (match := _SHARD.fullmatch(file.name))}
    if shards:
        return _complete(folder, shards), {}
    raise ValueError(f"{folder}: wanted {_SINGLE} or {_INDEX}, {_what_is_there(folder)}")


def _of_index(folder: Path, name: str) -> tuple[list[Path], dict[str, Path]]:
    index = folder / name
    names = read_json(folder, name).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{index}: weight_map is missing or empty; get the file again")
    promised = {
        weight: folder / _plain_name(file, f"{index}: weight {weight} is said to be in")
        for weight, file in names.items()
    }
    files = sorted(set(promised.values()))
    for file in files:
        check_file(file, ", though the index names it")
    return files, promised


def _plain_name(file: Any, where: str) -> str:
    if not isinstance(file, str) or file in ("", ".", "..") or Path(file).name != file or "\0" in file:
        raise ValueError(f"{where} {file!r:.60}; wanted the name of a file in the same folder, get the file again")
    return file


def _complete(folder: Path, shards: Mapping[Path, re.Match[str]]) -> list[Path]:
    """Shards without an index, if none is missing."""
    total = next(iter(shards.values()))[2]
    wanted = [folder / f"model-{number:05}-of-{total}.safetensors" for number in range(1, int(total) + 1)]
    missing = [file.name for file in wanted if file not in shards]
    if missing or len(shards) != len(wanted):
        raise ValueError(
            f"{folder}: holds {len(shards)} shards without {_INDEX}, and {missing[0] if missing else 'one set'} is not "
            "among them; get the model's files again"
        )
    return wanted


def _what_is_there(folder: Path) -> str:
    if (folder / _SINGLE).is_dir():
        return f"got a folder named {_SINGLE}: get the file itself"
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    if found := [name for name in names if name.startswith("consolidated")]:
        return f"got {found[0]}, weights under the names of Mistral's or Meta's own code: get {_SINGLE} or its shards"
    if found := [name for name in names if name.endswith((".bin", ".pth", ".pt", ".h5", ".msgpack"))]:
        return f"got {', '.join(found[:3])}: convert it to safetensors first"
    if found := [name for name in names if name.endswith(".safetensors")]:
        return f"got {', '.join(found[:3])}: rename the file if it is the whole model"
    if found := [name for name in names if name.endswith(".gguf")]:
        return f"got {', '.join(found[:3])}: give that file instead of the folder"
    return "got no weight file"


def _headers(file: Path) -> dict[str, _Stored]:
    check_file(file)
    found = {}
    with _open(file) as opened:
        for name in opened.keys():  # noqa: SIM118 (not a dict)
            view = opened.get_slice(name)
            found[name] = _Stored(file, name, view.get_dtype(), tuple(view.get_shape()))
    return found


def _open(file: Path) -> Any:
    try:
        return safetensors.safe_open(file, framework="pt")
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{file}: not a whole safetensors file ({error}); get the file again") from None
