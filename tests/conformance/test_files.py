"""A9: weights of a Hugging Face folder, however they lie on disk: read as transformers reads them, or named.

Reference: the weights of the model that transformers loads from the same folder. Where transformers cannot (shards
without an index, which llama.cpp takes; FP8 in sizes that its blocks do not divide) the model that was written.
"""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from weight_folders import INDEX, SINGLE, Change, edit_json, edit_weights, said, to_fp8

from shadowattn.converter.checkpoint import Checkpoint, check_weights, expected_weights
from shadowattn.converter.formats import open_checkpoint
from shadowattn.converter.pipeline import convert
from shadowattn.models.bundle import read_manifest
from shadowattn.models.families import read_config


def opened(folder: Path) -> tuple[Checkpoint, tuple[str, ...]]:
    """The checkpoint, and what check_weights has to say."""
    checkpoint = open_checkpoint(folder)
    return checkpoint, check_weights(checkpoint, read_config(checkpoint.config))


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    checkpoint, _ = opened(folder)
    return {name: checkpoint.read(name) for name in expected_weights(read_config(checkpoint.config))}


def weights_of_transformers(folder: Path) -> dict[str, np.ndarray]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def check_equal(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    for name, weight in ours.items():
        np.testing.assert_array_equal(weight, theirs[name], err_msg=name)


# Changes of a folder after which transformers still reads the model.


def stale_index_beside_the_file(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": "model-00001-of-00009.safetensors"}}))


def damaged_index_beside_the_file(folder: Path) -> None:
    (folder / INDEX).write_text("{")


def consolidated_beside_the_file(folder: Path) -> None:
    safetensors.torch.save_file({"norm.weight": torch.ones(3)}, folder / "consolidated.safetensors")
    (folder / "params.json").write_text("{}")


def older_formats_beside_the_file(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"no pickle")
    (folder / "model.fp16.safetensors").write_bytes(b"")


def buffers_in_the_file(folder: Path) -> None:
    edit_weights(folder, lambda w: w.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(20)}))


def scales_of_a_quantised_cache(folder: Path) -> None:
    def add(weights: dict[str, torch.Tensor]) -> None:
        for i in range(2):
            for name in ("k_scale", "v_scale", "k_proj.k_scale", "v_proj.output_scale", "attn.q_scale", "kv_scale"):
                weights[f"model.layers.{i}.self_attn.{name}"] = torch.tensor([0.5])

    edit_weights(folder, add)


def float64(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({name: w.double() for name, w in weights.items()}))


def named_in_the_config(folder: Path) -> None:
    (folder / SINGLE).rename(folder / "other.safetensors")
    stale_index_beside_the_file(folder)
    edit_json(folder / "config.json", lambda config: config.update(transformers_weights="other.safetensors"))


def saved_without_its_head(folder: Path) -> None:
    edit_weights(folder, lambda w: [w.update({name.removeprefix("model."): w.pop(name)}) for name in list(w)])


def links_into_another_folder(folder: Path) -> None:
    blobs = folder.with_name("blobs")
    blobs.mkdir()
    for file in list(folder.iterdir()):
        file.rename(blobs / f"{file.name}.blob")
        file.symlink_to(os.path.relpath(blobs / f"{file.name}.blob", folder))


READ: dict[str, Change] = {
    "as it is": lambda folder: None,
    "a stale index beside the whole file": stale_index_beside_the_file,
    "a damaged index beside the whole file": damaged_index_beside_the_file,
    "consolidated.safetensors beside the whole file": consolidated_beside_the_file,
    "older formats beside the whole file": older_formats_beside_the_file,
    "buffers in the file": buffers_in_the_file,
    "scales of a quantised cache": scales_of_a_quantised_cache,
    "float64": float64,
    "a file that config.json names": named_in_the_config,
    "names of a model that was saved without its head": saved_without_its_head,
    "links into another folder": links_into_another_folder,
}


@pytest.mark.parametrize("change", READ.values(), ids=READ.keys())
def test_read_as_transformers_does(change: Change, whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    change(folder)
    check_equal(weights_of(folder), weights_of_transformers(folder))


def entries_for_nobody(folder: Path) -> None:
    def add(index: dict[str, Any]) -> None:
        first = next(iter(index["weight_map"].values()))
        index["weight_map"] |= {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": first for i in range(2)} | {
            "lm_head.bias": first,
            "model.layers.7.mlp.up_proj.weight": first,
        }

    edit_json(folder / INDEX, add)


def entries_in_the_wrong_file(folder: Path) -> None:
    def turn(index: dict[str, Any]) -> None:
        files = sorted(set(index["weight_map"].values()))
        index["weight_map"] = {
            name: files[(files.index(file) + 1) % len(files)] for name, file in index["weight_map"].items()
        }

    edit_json(folder / INDEX, turn)


def files_that_no_index_names(folder: Path) -> None:
    shutil.copy(next(folder.glob("model-00001-*")), folder / "model-00009-of-00009.safetensors")


def dangling_whole_file(folder: Path) -> None:
    (folder / SINGLE).symlink_to("nowhere")


SHARDED: dict[str, Change] = {
    "as they are": lambda folder: None,
    "index entries for tensors that nobody needs": entries_for_nobody,
    "index entries in the wrong file": entries_in_the_wrong_file,
    "files that no index names": files_that_no_index_names,
    "a link to nothing where the whole file might be": dangling_whole_file,
}


@pytest.mark.parametrize("change", SHARDED.values(), ids=SHARDED.keys())
def test_shards_are_read_as_transformers_does(change: Change, sharded: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sharded, tmp_path / "model"))
    change(folder)
    check_equal(weights_of(folder), weights_of_transformers(folder))


def test_an_index_that_still_names_the_head_of_a_tied_model(tied: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tied, tmp_path / "model"))
    shard = "model-00001-of-00001.safetensors"
    weights = safetensors.torch.load_file(folder / SINGLE)
    (folder / SINGLE).rename(folder / shard)
    index = {"metadata": {}, "weight_map": dict.fromkeys([*weights, "lm_head.weight"], shard)}
    (folder / INDEX).write_text(json.dumps(index))
    check_equal(weights_of(folder), weights_of_transformers(folder))


def test_shards_without_an_index(sharded: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sharded, tmp_path / "model"))
    (folder / INDEX).unlink()
    check_equal(weights_of(folder), weights_of_transformers(sharded))


# FP8


def fp8_folder(whole: Path, folder: Path, block: tuple[int, int] | str, settings: dict[str, Any]) -> dict[str, Any]:
    """A copy whose layers are FP8; returns the values they stand for. block: or "row", "tensor"."""
    shutil.copytree(whole, folder)
    stored: dict[str, torch.Tensor] = {}
    meant: dict[str, np.ndarray] = {}
    for name, weight in safetensors.torch.load_file(whole / SINGLE).items():
        if "_proj.weight" not in name:
            stored[name], meant[name] = weight, weight.numpy()
            continue
        rows, columns = weight.shape
        high, wide = {"row": (1, columns), "tensor": (rows, columns)}.get(block, block)
        quantised, scale = to_fp8(weight, high, wide)
        spread = scale.repeat_interleave(high, 0).repeat_interleave(wide, 1)[:rows, :columns]
        meant[name] = (quantised.float() * spread).numpy()
        stored[name] = quantised
        stored[f"{name}_scale{'_inv' if isinstance(block, tuple) else ''}"] = (
            scale.reshape(()) if block == "tensor" else scale
        )
        stored[name.removesuffix("weight") + "input_scale"] = torch.tensor(0.25)
    safetensors.torch.save_file(stored, folder / SINGLE, {"format": "pt"})
    edit_json(folder / "config.json", lambda config: config.update(quantization_config=settings))
    return meant


def test_fp8_in_blocks_is_read_as_transformers_does(whole: Path, tmp_path: Path) -> None:
    settings = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [8, 8]}
    meant = fp8_folder(whole, tmp_path / "model", (8, 8), settings)
    edit_weights(tmp_path / "model", lambda w: [w.pop(name) for name in list(w) if name.endswith("input_scale")])
    ours = weights_of(tmp_path / "model")
    check_equal(ours, meant)
    check_equal(ours, weights_of_transformers(tmp_path / "model"))


GROUPS = {"group_0": {"weights": {"num_bits": 8, "type": "float", "block_structure": [16, 48]}}}
FP8: dict[str, tuple[Any, dict[str, Any]]] = {
    "blocks that reach over the edge": ((128, 128), {"quant_method": "fp8", "weight_block_size": [128, 128]}),
    "blocks of the usual size": ((128, 128), {"quant_method": "fp8"}),
    "blocks of compressed-tensors": ((16, 48), {"quant_method": "compressed-tensors", "config_groups": GROUPS}),
    "a scale for every row": ("row", {"quant_method": "compressed-tensors", "format": "float-quantized"}),
    "a scale for every row, fbgemm": ("row", {"quant_method": "fbgemm_fp8"}),
    "one scale": ("tensor", {"quant_method": "modelopt", "quant_algo": "FP8"}),
}


@pytest.mark.parametrize(("block", "settings"), FP8.values(), ids=FP8.keys())
def test_fp8_is_multiplied_with_its_scales(block: Any, settings: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    meant = fp8_folder(whole, tmp_path / "model", block, settings)
    check_equal(weights_of(tmp_path / "model"), meant)


def test_a_quantised_cache_alone_leaves_the_weights_as_they_are(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    settings = {"quant_method": "compressed-tensors", "config_groups": {}, "kv_cache_scheme": {"num_bits": 8}}
    edit_json(folder / "config.json", lambda config: config.update(quantization_config=settings))
    scales_of_a_quantised_cache(folder)
    check_equal(weights_of(folder), weights_of_transformers(whole))


# What is said, and what a model is called.


def test_weights_of_nobody_are_left_out_with_a_warning(whole: Path, tmp_path: Path) -> None:
    """transformers says so in a warning too; a head for rewards is such a weight."""
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    edit_weights(folder, lambda weights: weights.update({f"v_head.{i}.weight": torch.ones(2) for i in range(5)}))
    (sentence,) = opened(folder)[1]
    assert "v_head.0.weight, v_head.1.weight, v_head.2.weight and 2 more belong to no llama model" in sentence
    check_equal(weights_of(folder), weights_of_transformers(folder))


def snapshot(folder: Path, repository: str, source: Path) -> Path:
    """The Hugging Face cache: snapshots/HASH holds links to blobs."""
    repo = folder / f"models--{repository.replace('/', '--')}"
    path = repo / "snapshots" / "0123456789abcdef"
    shutil.copytree(source, repo / "blobs")
    path.mkdir(parents=True)
    for file in (repo / "blobs").iterdir():
        blob = file.rename(file.with_name(f"{abs(hash(file.name)):x}"))
        (path / file.name).symlink_to(f"../../blobs/{blob.name}")
    return path


NAMES = {
    "a snapshot of the cache": (lambda folder, whole: snapshot(folder, "org/Some-Model", whole), {}, "org/Some-Model"),
    "a snapshot with dashes": (lambda folder, whole: snapshot(folder, "org/a--b", whole), {}, "org/a--b"),
    "a snapshot without organisation": (lambda folder, whole: snapshot(folder, "gpt9", whole), {}, "gpt9"),
    "a snapshot whose config names its base": (
        lambda folder, whole: snapshot(folder, "me/tuned", whole),
        {"_name_or_path": "org/base"},
        "me/tuned",
    ),
    "a folder": (lambda folder, whole: shutil.copytree(whole, folder / "Mine-1B"), {}, "Mine-1B"),
    "a folder whose config knows its name": (
        lambda folder, whole: shutil.copytree(whole, folder / "x"),
        {"_name_or_path": "org/name"},
        "org/name",
    ),
    "a folder whose config knows a path": (
        lambda folder, whole: shutil.copytree(whole, folder / "Mine-1B"),
        {"_name_or_path": "/root/checkpoints/step-100/"},
        "Mine-1B",
    ),
}


@pytest.mark.parametrize(("make", "settings", "name"), NAMES.values(), ids=NAMES.keys())
def test_names(
    make: Callable[[Path, Path], Any], settings: dict[str, Any], name: str, whole: Path, tmp_path: Path
) -> None:
    folder = Path(make(tmp_path, whole))
    said(**settings)(folder)
    assert open_checkpoint(folder).origin.name == name
    link = tmp_path / "elsewhere"
    link.symlink_to(folder)
    assert open_checkpoint(link).origin.name == name


def test_a_snapshot_keeps_its_name_and_licence_in_the_bundle(whole: Path, tmp_path: Path) -> None:
    folder = snapshot(tmp_path, "org/Some-Model", whole)
    shown = io.StringIO()
    edit_weights(folder, lambda weights: weights.update({"v_head.weight": torch.ones(2)}))
    path = convert(folder, tmp_path / "bundle", weights="float32", prefill_chunks=(2,), progress=shown)
    manifest = read_manifest(path)
    assert (manifest.name, manifest.licence) == ("org/Some-Model", "apache-2.0")
    assert "v_head.weight belong to no llama model" in shown.getvalue()


def test_a_config_with_a_byte_order_mark(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    file = folder / "config.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    check_equal(weights_of(folder), weights_of_transformers(whole))
