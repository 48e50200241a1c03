"""Reading weights: every supported type and layout gives the same float32 values under the same names."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from shadowattn.converter.checkpoint import check_weights, expected_weights
from shadowattn.converter.formats import open_checkpoint
from shadowattn.converter.tokens import known_tokens
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
    name = "model.layers.1.self_attn.q_proj.bias"
    index = json.loads((model.path / "model.safetensors.index.json").read_text())
    file = model.path / index["weight_map"][name]
    weights = safetensors.torch.load_file(file)
    del weights[name]
    safetensors.torch.save_file(weights, file)
    checkpoint = open_checkpoint(model.path)
    with pytest.raises(ValueError, match=rf"{file.name}: weight .*q_proj\.bias is not in it, though the index says so"):
        check_weights(checkpoint, read_config(checkpoint.config))


@pytest.mark.parametrize("family", ["llama", "llama_linear_mha_tied", "llama3_rope", "qwen2", "qwen3", "mistral"])
def test_expected_weights_are_those_of_transformers(family, tiny):
    model = tiny(family)
    spec = read_config(open_checkpoint(model.path).config)
    theirs = {name: tuple(tensor.shape) for name, tensor in model.model.state_dict().items()}
    if spec.tied_embeddings:
        theirs.pop("lm_head.weight", None)
    assert expected_weights(spec) == theirs


def test_tied_embeddings_are_seen_without_being_told(tiny, tmp_path):
    folder = shutil.copytree(tiny("llama_linear_mha_tied").path, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config.pop("tie_word_embeddings", None)
    (folder / "config.json").write_text(json.dumps(config))
    assert open_checkpoint(folder).config["tie_word_embeddings"] is True


def test_stop_tokens_of_both_configs(tiny, tmp_path):
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
    folder = shutil.copytree(tiny("llama").path, tmp_path / "model")
    (folder / "README.md").write_text(card)
    if licence:
        (folder / "LICENSE.txt").write_text(licence)
    assert open_checkpoint(folder).origin.licence == wanted


def copy_of(model: Path, folder: Path, **changes: object) -> Path:
    """A copy whose config.json says something else."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def test_a_folder_of_licences(tiny, tmp_path):
    folder = copy_of(tiny("llama").path, tmp_path / "model")
    (folder / "README.md").unlink()
    (folder / "LICENSES").mkdir()
    assert open_checkpoint(folder).origin.licence == "unknown (the model's files do not say)"


def test_no_quantisation_may_be_said_as_null(tiny, tmp_path):
    assert open_checkpoint(copy_of(tiny("llama").path, tmp_path / "model", quantization_config=None)).shapes()


def test_ids_that_are_none_are_not_read(tiny, tmp_path):
    folder = copy_of(tiny("llama").path, tmp_path / "model", eos_token_id=[2, "x", None, True], bos_token_id=True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.stop_token_ids == (2,)
    assert checkpoint.bos_token_id is None


def test_first_and_last_tokens_outside_the_vocabulary_are_left_out(tiny, tmp_path):
    folder = copy_of(tiny("llama").path, tmp_path / "model", eos_token_id=[-1, 7, 10**9], bos_token_id=288)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tokens = known_tokens(open_checkpoint(folder), None, 288)
    assert (tokens.bos, tokens.stops) == (None, (7,))
    assert [warning.split("names token ")[1].split()[0] for warning in tokens.warnings] == ["-1", "1000000000", "288"]


def test_the_tokenizers_own_last_token_stops_too(tiny, tmp_path):
    folder = copy_of(tiny("llama").path, tmp_path / "model", eos_token_id=7)
    (folder / "generation_config.json").unlink(missing_ok=True)
    checkpoint = open_checkpoint(folder)
    assert known_tokens(checkpoint, checkpoint.tokenizer(), 288).stops == (7, 2)  # </s> of tokenizer_config.json
