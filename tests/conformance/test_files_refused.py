"""A9: weights of a Hugging Face folder that cannot be read: one sentence says what is there and what to do."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from weight_folders import (
    INDEX,
    LFS_POINTER,
    SINGLE,
    Change,
    adapter,
    edit_weights,
    link,
    moved,
    only,
    packed,
    replace,
    said,
    to_fp8,
    unlink,
    with_weight,
)

from shadowattn.converter.formats import open_checkpoint
from shadowattn.converter.pipeline import convert


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
        r"got a folder named model\.safetensors: get the file itself",
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
        open_checkpoint(folder)
    assert "\n" not in str(caught.value)
