"""A rounded layer: what its inputs have in common goes through exactly, and what is written is what was rounded."""

import numpy as np
import pytest
import torch

from shadowattn.converter.formats import open_checkpoint
from shadowattn.converter.recipes import parse_recipe
from shadowattn.converter.rotation import down_block, mix_blocks, random_rotation
from shadowattn.converter.rounded_layers import READERS, LayerRounder, has_bias
from shadowattn.models.families import read_config

SEED = 20261201
PREFIX = "model.layers.1."


@pytest.fixture(params=["llama", "llama_linear_mha_tied", "qwen2"])
def taken(request, tiny, tmp_path):
    """A rounder that took layer 1, the inputs that it got, and float32 weights in the rotated and mixed basis."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    checkpoint = open_checkpoint(tiny(request.param).path)
    spec = read_config(checkpoint.config)
    rounder = LayerRounder(random_rotation(spec), parse_recipe("int8"), checkpoint.read, tmp_path)
    widths = {
        "self_attn.q_proj": spec.hidden_size,
        "self_attn.o_proj": spec.num_heads * spec.head_dim,
        "mlp.gate_proj": spec.hidden_size,
        "mlp.down_proj": spec.intermediate_size,
    }
    inputs = {
        name: torch.from_numpy((rng.standard_normal((1, 300, size)) + 3 * rng.standard_normal(size)).astype(np.float32))
        for name, size in widths.items()
    }
    rounder.take(1, inputs)
    order = rounder.orders[1]
    seen = {name: tensor[0].numpy() for name, tensor in inputs.items()}
    seen["mlp.down_proj"] = mix_blocks(seen["mlp.down_proj"][:, order], down_block(spec))
    return spec, rounder, seen, rounder.rotation.mixed(rounder.orders).wrap(checkpoint.read)


@pytest.mark.parametrize("first", READERS)
def test_the_mean_output_is_that_of_the_float_layer(first, taken):
    spec, rounder, seen, load = taken
    stored = rounder.weights()
    rows = seen[first]
    shifts = {"self_attn.q_proj": "input_layernorm.shift", "mlp.gate_proj": "post_attention_layernorm.shift"}
    given = rows - stored(PREFIX + shifts[first]).data if first in shifts else rows
    for reader in READERS[first]:
        name = PREFIX + reader
        wanted = rows @ load(f"{name}.weight").T
        if has_bias(spec, reader):
            wanted = wanted + load(f"{name}.bias")
        found = given @ stored(f"{name}.weight").dequantized().T + stored(f"{name}.bias").data
        spread = np.abs(wanted).max()
        assert np.abs(found.mean(axis=0) - wanted.mean(axis=0)).max() < 1e-5 * spread
        assert 0 < np.abs(found - wanted).max() < 0.05 * spread


def test_norms_shift_by_what_their_outputs_have_in_common(taken):
    _, rounder, seen, _ = taken
    stored = rounder.weights()
    np.testing.assert_allclose(
        stored(PREFIX + "input_layernorm.shift").data, seen["self_attn.q_proj"].mean(axis=0), rtol=1e-4, atol=1e-5
    )


def test_weights_that_were_not_taken_are_rounded_to_the_nearest(taken):
    _, rounder, _, load = taken
    name = "model.layers.0.mlp.up_proj.weight"
    found, wanted = rounder.weights()(name), parse_recipe("int8").store(name, load(name))
    np.testing.assert_array_equal(found.data, wanted.data)
    np.testing.assert_array_equal(found.scale, wanted.scale)


def test_the_table_of_a_tied_model_is_rounded_for_lm_head(tiny, tmp_path):
    checkpoint = open_checkpoint(tiny("llama_linear_mha_tied").path)
    spec = read_config(checkpoint.config)
    rounder = LayerRounder(random_rotation(spec), parse_recipe("int8"), checkpoint.read, tmp_path)
    load = rounder.rotation.wrap(checkpoint.read)
    hidden = np.random.default_rng(SEED).standard_normal((1, 400, spec.hidden_size)).astype(np.float32)
    hidden *= np.geomspace(3, 0.1, spec.hidden_size, dtype=np.float32)
    rounder.take_head(torch.from_numpy(hidden))
    name = "model.embed_tokens.weight"
    rows = hidden[0] @ load("head_rotation.weight").T
    found, plain = rounder.weights()(name), parse_recipe("int8").store(name, load(name))
    errors = [np.square(rows @ (stored.dequantized() - load(name)).T).mean() for stored in (found, plain)]
    assert errors[0] < 0.7 * errors[1]
