"""Changes of a Hugging Face folder as a careless download, another tool or a quantiser makes them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 4997\n"
Change = Callable[[Path], Any]


def edit_json(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = safetensors.torch.load_file(folder / SINGLE)
    change(weights)
    safetensors.torch.save_file(weights, folder / SINGLE, {"format": "pt"})


def to_fp8(weight: torch.Tensor, high: int, wide: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and scales, one for each block of `high` x `wide`."""
    rows, columns = weight.shape
    padded = torch.nn.functional.pad(weight, (0, -columns % wide, 0, -rows % high))
    blocks = padded.reshape(padded.shape[0] // high, high, padded.shape[1] // wide, wide)
    scale = blocks.abs().amax(dim=(1, 3)) / 448
    quantised = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn).reshape(padded.shape)
    return quantised[:rows, :columns].contiguous(), scale


def unlink(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink() for name in names]


def replace(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content)


def link(name: str, target: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return change


def moved(new: str) -> Change:
    return lambda folder: (folder / SINGLE).rename(folder / new)


def adapter(alone: bool) -> Change:
    def change(folder: Path) -> None:
        (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base", "peft_type": "LORA"}')
        safetensors.torch.save_file({"base_model.x": torch.ones(2)}, folder / "adapter_model.safetensors")
        if alone:
            (folder / SINGLE).unlink()
            (folder / "config.json").unlink()

    return change


def with_weight(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Change:
    return lambda folder: edit_weights(folder, lambda weights: weights.update({name: torch.ones(shape).to(dtype)}))


def said(**settings: Any) -> Change:
    return lambda folder: edit_json(folder / "config.json", lambda config: config.update(settings))


def packed(method: str, name: str, dtype: torch.dtype) -> Change:
    """4-bit weights as a method stores them: several to an integer, under a name of its own."""

    def change(folder: Path) -> None:
        said(quantization_config={"quant_method": method, "bits": 4})(folder)

        def pack(weights: dict[str, torch.Tensor]) -> None:
            weights[f"model.layers.0.self_attn.q_proj.{name}"] = torch.ones(25, 200).to(dtype)
            del weights["model.layers.0.self_attn.q_proj.weight"]

        edit_weights(folder, pack)

    return change


def only(**files: str) -> Change:
    """Leaves nothing but these files."""

    def change(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        for name, content in files.items():
            path = folder / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return change
