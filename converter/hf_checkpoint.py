"""A Hugging Face directory: config.json, safetensors (single or sharded), tokenizer files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from shadowattn.converter.checkpoint import Checkpoint, Origin, Shape, TokenizerFiles, finite
from shadowattn.converter.hf_tokenizer import tokenizer_files
from shadowattn.converter.json_files import read_json
from shadowattn.converter.sampling import of_generation_config
from shadowattn.converter.vocabulary import LM_HEAD

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


class HfCheckpoint(Checkpoint):
    """Opens the directory: every safetensors header is read, no weights."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = read_json(path, "config.json")
        if self.config.get("quantization_config") is not None:
            raise ValueError(
                f"{path}: config.json has a quantization_config, and only float32, float16 and bfloat16 weights can be "
                "read; get the model's unquantised files"
            )
        self._files = _weight_files(path)
        self._shapes = {name: _shape(self._files[name], name) for name in self._files}
        if self.config.get("tie_word_embeddings") is None:
            self.config["tie_word_embeddings"] = LM_HEAD not in self._shapes
        generation = read_json(path, "generation_config.json", optional=True)
        bos = generation.get("bos_token_id", self.config.get("bos_token_id"))
        self.bos_token_id = next(iter(_ids(bos)), None)
        self.stop_token_ids = _ids(self.config.get("eos_token_id"), generation.get("eos_token_id"))
        self.sampling, self.warnings = of_generation_config(path, generation)

    @property
    def origin(self) -> Origin:
        """Name and licence as config.json and the model card (README.md) state them."""
        name = str(self.config.get("_name_or_path") or self.path.resolve().name)
        return Origin(name, str(self.path), _licence(self.path))

    def shapes(self) -> Mapping[str, Shape]:
        """Every weight by its name."""
        return self._shapes

    def read(self, name: str) -> np.ndarray:
        """One weight as float32."""
        file = self._files[name]
        try:
            with safetensors.safe_open(file, framework="pt") as opened:
                weight = opened.get_tensor(name).float().numpy()
        except (safetensors.SafetensorError, OSError) as error:
            raise ValueError(f"{file}: weight {name} cannot be read ({error}); get the file again") from None
        return finite(weight, f"{file}: weight {name}")

    def tokenizer(self) -> TokenizerFiles | None:
        """The tokenizer, loaded by transformers."""
        return tokenizer_files(self.path, self.config)


def _weight_files(folder: Path) -> dict[str, Path]:
    """Weight name -> file that holds it."""
    if (folder / _INDEX).is_file():
        names = read_json(folder, _INDEX).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise ValueError(f"{folder / _INDEX}: weight_map is missing or empty; get the file again")
        for name, file in names.items():
            if not isinstance(file, str) or file in ("", ".", "..") or Path(file).name != file or "\0" in file:
                raise ValueError(
                    f"{folder / _INDEX}: weight {name} is said to be in {file!r:.60}; wanted the name of a file in the "
                    "same folder, get the file again"
                )
        return {name: folder / file for name, file in names.items()}
    if (folder / _SINGLE).is_file():
        with _open(folder / _SINGLE) as opened:
            return {name: folder / _SINGLE for name in opened.keys()}  # noqa: SIM118 (not a dict)
    others = sorted(file.name for file in folder.glob("*.bin"))
    found = f"got {', '.join(others[:3])}: convert it to safetensors first" if others else "got no weight file"
    raise ValueError(f"{folder}: wanted {_SINGLE} or {_INDEX}, {found}")


def _open(file: Path) -> Any:
    if not file.is_file():
        raise ValueError(f"{file}: the file is missing, though the index names it; get the model's files again")
    try:
        return safetensors.safe_open(file, framework="pt")
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{file}: not a whole safetensors file ({error}); get the file again") from None


def _shape(file: Path, name: str) -> Shape:
    with _open(file) as opened:
        try:
            view = opened.get_slice(name)
        except safetensors.SafetensorError:
            raise ValueError(
                f"{file}: weight {name} is not in it, though the index says so; get the file again"
            ) from None
        if view.get_dtype() not in DTYPES:
            raise ValueError(
                f"{file}: weight {name} is {view.get_dtype()}; wanted float32, float16 or bfloat16, "
                "get unquantised files"
            )
        return tuple(view.get_shape())


def _ids(*entries: Any) -> tuple[int, ...]:
    """Every whole number among the entries, each an id or a list of ids."""
    flat = [item for entry in entries for item in (entry if isinstance(entry, list) else [entry])]
    return tuple(dict.fromkeys(item for item in flat if isinstance(item, int) and not isinstance(item, bool)))


def _licence(folder: Path) -> str:
    """`license:` of the model card's front matter, else the first line of a LICENSE file."""
    card = folder / "README.md"
    if card.is_file():
        text = card.read_text("utf-8", errors="replace")
        front = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
        if match := re.search(r"^license:\s*(\S+)", front, re.MULTILINE):
            return match.group(1).strip("\"'")
    for file in sorted(folder.glob("LICEN[SC]E*")):
        text = file.read_text("utf-8", errors="replace") if file.is_file() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines:
            return lines[0]
    return "unknown (the model's files do not say)"
