"""A Hugging Face directory: config.json, safetensors (single or sharded), tokenizer files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shadowattn.converter.checkpoint import Checkpoint, Origin, Shape, TokenizerFiles
from shadowattn.converter.hf_tokenizer import tokenizer_files
from shadowattn.converter.hf_weights import WeightFiles
from shadowattn.converter.json_files import read_json
from shadowattn.converter.sampling import of_generation_config
from shadowattn.converter.weight_names import EMBEDDING, LM_HEAD

_QUANTIZATIONS = ("fp8", "fbgemm_fp8", "compressed-tensors", "modelopt")
_USUAL_BLOCK = (128, 128)


class HfCheckpoint(Checkpoint):
    """Opens the directory: every safetensors header is read, no weights but those that may be one and the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _refuse_other_folders(path)
        config = read_json(path, "config.json")
        _refuse_quantization(path, config)
        self._weights = WeightFiles(path, config.get("transformers_weights"), _scale_block(config))
        self.config = {**config, "tie_word_embeddings": self._tied(config.get("tie_word_embeddings"))}
        generation = read_json(path, "generation_config.json", optional=True)
        bos = generation.get("bos_token_id", self.config.get("bos_token_id"))
        self.bos_token_id = next(iter(_ids(bos)), None)
        self.stop_token_ids = _ids(self.config.get("eos_token_id"), generation.get("eos_token_id"))
        self.sampling, left_out = of_generation_config(path, generation)
        self.warnings = (*self.warnings, *left_out, *_no_ids(path / "config.json", self.config))
        self.warnings += _no_ids(path / "generation_config.json", generation)

    @property
    def origin(self) -> Origin:
        """Name and licence as the Hugging Face cache, config.json and the model card (README.md) state them."""
        return Origin(_name(self.path, self.config), str(self.path), _licence(self.path))

    def shapes(self) -> Mapping[str, Shape]:
        """Every weight by its name; a second copy of tied embeddings is left out."""
        shapes = self._weights.shapes()
        if self.config.get("tie_word_embeddings") is True:
            shapes.pop(LM_HEAD, None)
        return shapes

    def read(self, name: str) -> np.ndarray:
        """One weight as float32."""
        return self._weights.read(name)

    def missing(self, name: str) -> str:
        """The sentence about a weight that shapes() lacks."""
        return self._weights.not_there(name) or super().missing(name)

    def _tied(self, said: Any) -> Any:
        """What the files hold, given what the config says: transformers compares too, and unties what differs.

        Where the config says nothing, a model without lm_head is tied, as llama.cpp reads it.
        """
        shapes = self._weights.shapes()
        if said is None:
            return LM_HEAD not in shapes
        if said is not True or LM_HEAD not in shapes:
            return said
        if EMBEDDING not in shapes:
            self._weights.rename(LM_HEAD, EMBEDDING)
        elif not self._weights.equal(EMBEDDING, LM_HEAD):
            self.warnings = (
                f"{self.path}: config.json says tie_word_embeddings, but {LM_HEAD} differs from {EMBEDDING}; both are "
                "used as they are",
            )
            return False
        return True

    def tokenizer(self) -> TokenizerFiles | None:
        """The tokenizer, loaded by transformers."""
        return tokenizer_files(self.path, self.config)


def _refuse_other_folders(folder: Path) -> None:
    """Names what a folder without a whole model of its own is."""
    names = sorted(entry.name for entry in folder.iterdir())
    adapters = [name for name in names if name == "adapter_config.json" or name.startswith("adapter_model.")]
    whole = "config.json" in names
    if adapters:
        base = read_json(folder, "adapter_config.json", optional=True).get("base_model_name_or_path")
        beside = ", or move it away to convert the model without it" if whole else ""
        raise ValueError(
            f"{folder}: {adapters[-1]} is a PEFT adapter{f' of {base!s:.80}' if base else ''}; merge it into its model "
            f"(PEFT's merge_and_unload, then save_pretrained) and convert the result{beside}"
        )
    if whole:
        return
    if "snapshots" in names:
        inside = sorted(str(entry) for entry in (folder / "snapshots").iterdir())
        main = folder / "refs" / "main"
        newest = str(folder / "snapshots" / main.read_text().strip()) if main.is_file() else ""
        one = newest if newest in inside else inside[-1] if inside else "a snapshot, after downloading one"
        raise ValueError(f"{folder}: a folder of the Hugging Face cache, not a model; give {one}")
    if found := [name for name in names if name.endswith(".gguf")]:
        raise ValueError(f"{folder}: holds {', '.join(found[:3])}; give that file instead of the folder")
    if "params.json" in names:
        raise ValueError(
            f"{folder}: holds params.json, a model in Mistral's or Meta's own format; get the same model in Hugging "
            "Face's format, with config.json"
        )


def _refuse_quantization(folder: Path, config: Mapping[str, Any]) -> None:
    """FP8 weights are multiplied with their scales; other formats need the code of those who made them."""
    for key in ("quantization_config", "quantization"):  # the second is MLX's
        said = config.get(key)
        method = said.get("quant_method") if isinstance(said, dict) else said
        if said is not None and method not in _QUANTIZATIONS:
            raise ValueError(
                f"{folder}: config.json has a {key} ({method!r:.60}), and only float32, float16, bfloat16 and FP8 "
                "weights can be read; get the model's unquantised files"
            )


def _scale_block(config: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns that share a scale in FP8 weights."""
    said = config.get("quantization_config") or {}
    groups = said.get("config_groups")
    listed = groups.values() if isinstance(groups, dict) else ()
    schemes = [group.get("weights") for group in listed if isinstance(group, dict)]
    structures = [scheme.get("block_structure") for scheme in schemes if isinstance(scheme, dict)]
    for block in (said.get("weight_block_size"), *structures):
        if isinstance(block, list) and len(block) == 2 and all(isinstance(size, int) and size > 0 for size in block):
            return block[0], block[1]
    return _USUAL_BLOCK


def _name(folder: Path, config: Mapping[str, Any]) -> str:
    """org/name of a snapshot in the Hugging Face cache; else what config.json says, unless that is a path."""
    real = folder.resolve()
    if real.parent.name == "snapshots" and (parts := real.parent.parent.name.split("--", 2))[0] == "models":
        return "/".join(parts[1:])
    said = config.get("_name_or_path")
    if isinstance(said, str) and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", said) and said.strip("."):
        return said
    return real.name


def _ids(*entries: Any) -> tuple[int, ...]:
    """Every whole number among the entries, each an id or a list of ids."""
    flat = [item for entry in entries for item in (entry if isinstance(entry, list) else [entry])]
    return tuple(dict.fromkeys(item for item in flat if isinstance(item, int) and not isinstance(item, bool)))


def _no_ids(file: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for what stands where a token id should be."""
    found = []
    for key in ("bos_token_id", "eos_token_id"):
        said = content.get(key)
        entries = said if isinstance(said, list) else [said]
        wrong = [item for item in entries if item is not None and (isinstance(item, bool) or not isinstance(item, int))]
        if wrong:
            found.append(
                f"{file}: {key} has {wrong[0]!r:.40}, which is no token id; it is left out, give a whole number"
            )
    return tuple(found)


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
