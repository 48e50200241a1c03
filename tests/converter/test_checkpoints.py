"""Reading weights: every supported type and layout gives the same float32 values under the same names."""

import json

import numpy as np
import pytest
import torch

from shadowattn.converter.checkpoint import check_weights, expected_weights, open_checkpoint
from shadowattn.models.families import read_config


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes_are_read_exactly(dtype, new_model):
    model = new_model("llama", dtype=dtype)
    checkpoint = open_checkpoint(model.path)
    for name, parameter in model.model.state_dict().items():
        weight = checkpoint.read(name)
        assert weight.dtype == np.float32
        np.testing.assert_array_equal(weight, parameter.numpy())


def test_sharded_weights(new_model):
    model = new_model("qwen2", max_shard_size="40KB")
    assert len(list(model.path.glob("*.safetensors"))) > 2
    checkpoint = open_checkpoint(model.path)
    check_weights(checkpoint, read_config(checkpoint.config))
    for name, parameter in model.model.state_dict().items():
        np.testing.assert_array_equal(checkpoint.read(name), parameter.numpy())


def test_missing_shard_is_named(new_model):
    model = new_model("qwen2", max_shard_size="40KB")
    shard = sorted(model.path.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ValueError, match=rf"{shard.name}: the file is missing, though the index names it"):
        open_checkpoint(model.path)


def test_index_that_names_a_weight_its_shard_lacks(new_model):
    model = new_model("qwen2", max_shard_size="40KB")
    index = model.path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    files = content["weight_map"]
    files["model.norm.weight"] = next(file for file in files.values() if file != files["model.norm.weight"])
    index.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"model\.norm\.weight is not in it, though the index says so"):
        open_checkpoint(model.path)


@pytest.mark.parametrize("family", ["llama", "llama_linear_mha_tied", "llama3_rope", "qwen2", "qwen3", "mistral"])
def test_expected_weights_are_those_of_transformers(family, tiny):
    model = tiny(family)
    spec = read_config(open_checkpoint(model.path).config)
    theirs = {name: tuple(tensor.shape) for name, tensor in model.model.state_dict().items()}
    if spec.tied_embeddings:
        theirs.pop("lm_head.weight", None)
    assert expected_weights(spec) == theirs


def test_tied_embeddings_are_seen_without_being_told(tiny, tmp_path):
    import shutil

    folder = shutil.copytree(tiny("llama_linear_mha_tied").path, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config.pop("tie_word_embeddings", None)
    (folder / "config.json").write_text(json.dumps(config))
    assert open_checkpoint(folder).config["tie_word_embeddings"] is True


def test_stop_tokens_of_both_configs(tiny, tmp_path):
    import shutil

    folder = shutil.copytree(tiny("llama").path, tmp_path / "model")
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 7, 9], "bos_token_id": 3}')
    checkpoint = open_checkpoint(folder)
    assert checkpoint.stop_token_ids == (2, 7, 9)
    assert checkpoint.bos_token_id == 3


@pytest.mark.parametrize(
    ("card", "licence", "wanted"),
    [
        ("---\nlicense: mit\n---\n", None, "mit"),
        ("# no front matter", "\n  Apache License\n  Version 2.0", "Apache License"),
        ("", None, "unknown (the model's files do not say)"),
    ],
)
def test_licence(card, licence, wanted, tiny, tmp_path):
    import shutil

    folder = shutil.copytree(tiny("llama").path, tmp_path / "model")
    (folder / "README.md").write_text(card)
    if licence:
        (folder / "LICENSE.txt").write_text(licence)
    assert open_checkpoint(folder).origin.licence == wanted
