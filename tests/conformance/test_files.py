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
from tiny_models import make_model

from shadowattn.converter.checkpoint import Checkpoint, check_weights, expected_weights
from shadowattn.converter.formats import open_checkpoint
from shadowattn.converter.pipeline import convert
from shadowattn.models.bundle import read_manifest
from shadowattn.models.families import read_config

SEED = 20261130
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 4997\n"
Change = Callable[[Path], Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("whole") / "model", "llama").path


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tied") / "model", "llama_linear_mha_tied").path


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_model(tmp_path_factory.mktemp("sharded") / "model", "llama", max_shard_size="250KB").path
    assert len(list(folder.glob("model-*.safetensors"))) > 3
    return folder


def edit_json(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = safetensors.torch.load_file(folder / SINGLE)
    change(weights)
    safetensors.torch.save_file(weights, folder / SINGLE, {"format": "pt"})


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


def to_fp8(weight: torch.Tensor, high: int, wide: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and scales, one for each block of `high` x `wide`."""
    rows, columns = weight.shape
    padded = torch.nn.functional.pad(weight, (0, -columns % wide, 0, -rows % high))
    blocks = padded.reshape(padded.shape[0] // high, high, padded.shape[1] // wide, wide)
    scale = blocks.abs().amax(dim=(1, 3)) / 448
    quantised = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn).reshape(padded.shape)
    return quantised[:rows, :columns].contiguous(), scale


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


# What cannot be read.


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


def zero_points(folder: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    said(quantization_config={"quant_method": "compressed-tensors"})(folder)

    def change(weights: dict[str, torch.Tensor]) -> None:
        weights[name], weights[f"{name}_scale"] = to_fp8(weights[name], 1, 200)
        weights[f"{name}_zero_point"] = torch.ones(176, 1).to(torch.int8)

    edit_weights(folder, change)


def scales_of_another_shape(folder: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    said(quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})(folder)

    def change(weights: dict[str, torch.Tensor]) -> None:
        weights[name], weights[f"{name}_scale_inv"] = to_fp8(weights[name], 64, 64)

    edit_weights(folder, change)


UNQUANTISED = "get the model's unquantised files"
REFUSED: dict[str, tuple[Change, str]] = {
    "an adapter": (
        adapter(alone=True),
        r"adapter_model\.safetensors is a PEFT adapter of org/base; merge it into its model",
    ),
    "an adapter beside a whole model": (adapter(alone=False), r"PEFT adapter of org/base; .*, or move it away"),
    "weights in Mistral's own format": (
        moved("consolidated.safetensors"),
        r"got consolidated\.safetensors, weights under",
    ),
    "a folder in Mistral's own format": (
        only(params_dot_json="{}", consolidated_dot_safetensors=""),
        "holds params.json, a model in Mistral's or Meta's own format",
    ),
    "pickled weights": (moved("pytorch_model.bin"), r"got pytorch_model\.bin: convert it to safetensors first"),
    "weights of TensorFlow": (moved("tf_model.h5"), r"got tf_model\.h5: convert it to safetensors first"),
    "weights under another name": (moved("weights.safetensors"), r"got weights\.safetensors: rename the file if it is"),
    "no weights": (unlink(SINGLE), "got no weight file"),
    "a link to nothing": (
        link(SINGLE, "../blobs/0123"),
        r"model\.safetensors: a link to \.\./blobs/0123, which is not there",
    ),
    "config.json a link to nothing": (link("config.json", "gone"), r"config\.json: a link to gone, which is not there"),
    "a Git LFS pointer": (
        replace(SINGLE, LFS_POINTER),
        r"model\.safetensors: a Git LFS pointer, .* run `git lfs pull`",
    ),
    "tokenizer.json a Git LFS pointer": (replace("tokenizer.json", LFS_POINTER), r"tokenizer\.json"),
    "a page of a web server": (replace(SINGLE, "<!doctype html><html>"), "not a whole safetensors file"),
    "a folder where the file should be": (
        lambda folder: (unlink(SINGLE)(folder), (folder / SINGLE).mkdir()),
        r"got model\.safetensors",
    ),
    "a file that config.json names, missing": (
        said(transformers_weights="x.safetensors"),
        r"x\.safetensors: the file is missing",
    ),
    "a file outside the folder": (said(transformers_weights="../x.safetensors"), r"transformers_weights is '\.\./x"),
    "GPTQ": (packed("gptq", "qweight", torch.int32), rf"quantization_config \('gptq'\), .*{UNQUANTISED}"),
    "AWQ": (packed("awq", "qweight", torch.int32), rf"quantization_config \('awq'\), .*{UNQUANTISED}"),
    "bitsandbytes": (packed("bitsandbytes", "weight.absmax", torch.uint8), rf"\('bitsandbytes'\), .*{UNQUANTISED}"),
    "MXFP4": (packed("mxfp4", "weight_blocks", torch.uint8), rf"\('mxfp4'\), .*{UNQUANTISED}"),
    "MLX": (said(quantization={"group_size": 64, "bits": 4}), rf"a quantization \(None\), .*{UNQUANTISED}"),
    "compressed-tensors in 4 bits": (
        packed("compressed-tensors", "weight_packed", torch.int32),
        rf"q_proj\.weight_packed is I32; wanted float32, .*{UNQUANTISED}",
    ),
    "FP8 without its scales": (
        with_weight("model.norm.weight", 200, dtype=torch.float8_e4m3fn),
        rf"model\.norm\.weight is F8_E4M3; wanted .* FP8 with its scales, {UNQUANTISED}",
    ),
    "FP8 with zero points": (zero_points, rf"up_proj\.weight is F8_E4M3; .*{UNQUANTISED}"),
    "scales of another shape": (
        scales_of_another_shape,
        r"has scales \(3, 4\); wanted one, or one per row or per block",
    ),
    "integers": (with_weight("model.norm.weight", 200, dtype=torch.int8), rf"is I8; wanted float32, .*{UNQUANTISED}"),
    "a bias of q": (
        with_weight("model.layers.1.self_attn.q_proj.bias", 200),
        r"q_proj\.bias has no place, as config\.json says nothing of such a bias in a llama model",
    ),
    "a bias of the MLP": (with_weight("model.layers.0.mlp.down_proj.bias", 200), r"down_proj\.bias has no place"),
    "a bias of the head": (with_weight("lm_head.bias", 288), r"lm_head\.bias has no place"),
    "a bias of the last norm": (with_weight("model.norm.bias", 200), r"model\.norm\.bias has no place"),
    "a norm of q": (
        with_weight("model.layers.0.self_attn.q_norm.weight", 40),
        r"q_norm\.weight has no place in a llama",
    ),
    "an embedding of positions": (
        with_weight("model.embed_positions.weight", 9, 200),
        "embed_positions.weight has no place",
    ),
    "one layer more": (with_weight("model.layers.2.mlp.up_proj.weight", 176, 200), r"layers\.2\..* of 2 layers"),
    "weights of something else": (
        lambda folder: safetensors.torch.save_file({"encoder.w": torch.ones(2)}, folder / SINGLE),
        r"weight model\.embed_tokens\.weight is missing .* the files begin with encoder\.w",
    ),
    "a folder of GGUF files": (only(a_dot_gguf="GGUF", b_dot_gguf="GGUF"), r"holds a\.gguf, b\.gguf; give that file"),
    "a folder of the Hugging Face cache": (
        only(refs__main="abc", snapshots__abc__config_dot_json="{}", snapshots__def__config_dot_json="{}"),
        r"a folder of the Hugging Face cache, not a model; give .*/snapshots/abc$",
    ),
    "an empty folder": (only(), r"model: config\.json is missing; wanted a Hugging Face model directory"),
    "a folder that is not there": (shutil.rmtree, r"model: no such model; wanted a Hugging Face directory"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_in_one_sentence(change: Change, message: str, whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    change(folder)
    with pytest.raises(ValueError, match=message) as caught:
        convert(folder, tmp_path / "bundle", progress=io.StringIO())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def of_the_second_shard(change: Callable[[str], Change]) -> Change:
    return lambda folder: change(next(folder.glob("model-00002-of-*.safetensors")).name)(folder)


def no_index_and_one_shard_less(folder: Path) -> None:
    (folder / INDEX).unlink()
    of_the_second_shard(unlink)(folder)


REFUSED_SHARDED: dict[str, tuple[Change, str]] = {
    "a missing shard": (of_the_second_shard(unlink), "00002.*: the file is missing, though the index"),
    "a shard that is a link to nothing": (
        of_the_second_shard(lambda name: link(name, "gone")),
        "00002.*: a link to gone",
    ),
    "a shard that is a Git LFS pointer": (
        of_the_second_shard(lambda name: replace(name, LFS_POINTER)),
        "00002.*: a Git LFS pointer",
    ),
    "an index that is a Git LFS pointer": (replace(INDEX, LFS_POINTER), r"index\.json: a Git LFS pointer"),
    "an index without map": (replace(INDEX, "{}"), "weight_map is missing or empty"),
    "neither index nor all shards": (
        no_index_and_one_shard_less,
        r"shards without model\.safetensors\.index\.json, and model-00002-of-.* is not among them",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSED_SHARDED.values(), ids=REFUSED_SHARDED.keys())
def test_shards_refused_in_one_sentence(change: Change, message: str, sharded: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sharded, tmp_path / "model"))
    change(folder)
    with pytest.raises(ValueError, match=message) as caught:
        opened(folder)
    assert "\n" not in str(caught.value)


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
