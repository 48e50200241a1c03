"""config.json -> ModelSpec: what is read, and what is refused with which sentence."""

import math

import pytest

from shadowattn.models.families import read_config
from shadowattn.models.spec import ModelSpec, RopeSpec

BASE = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 99,
    "hidden_size": 60,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
}


def test_head_dim_follows_from_the_hidden_size_unless_given() -> None:
    assert read_config(BASE).head_dim == 12
    assert read_config(BASE | {"head_dim": 40}).head_dim == 40
    assert read_config(BASE | {"architectures": ["Qwen3ForCausalLM"]}).head_dim == 128


def test_switches_of_the_families() -> None:
    assert read_config(BASE | {"architectures": ["Qwen2ForCausalLM"]}).qkv_bias
    assert read_config(BASE | {"architectures": ["Qwen3ForCausalLM"]}).qk_norm
    assert read_config(BASE | {"attention_bias": True}).output_bias
    assert read_config(BASE | {"architectures": ["MistralForCausalLM"], "sliding_window": None}).family == "mistral"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel is not supported"),
        ({"architectures": []}, "none given"),
        ({"architectures": ["MistralForCausalLM"]}, "sliding-window"),
        ({"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True}, "sliding-window"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn' is not supported"),
        ({"rope_scaling": {"type": "llama3", "factor": 4.0}}, "lacks low_freq_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_act": "gelu"}, "'gelu' is not supported"),
        ({"vocab_size": 0}, "vocab_size must be a positive integer, got 0"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers must be a positive integer"),
        ({"num_key_value_heads": 2}, "not a multiple of 2 KV heads"),
        ({"head_dim": 7}, "even"),
    ],
)
def test_what_cannot_be_converted_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_config(BASE | change)


def test_both_spellings_of_rope() -> None:
    old = BASE | {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}
    new = BASE | {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}}
    assert read_config(old).rope == read_config(new).rope == RopeSpec(5e5, "linear", 2.0, original_max_length=512)


def test_llama3_scaling_keeps_short_waves_and_stretches_long_ones() -> None:
    rope = RopeSpec(500000.0, "llama3", 8.0, 1.0, 4.0, 8192)
    plain, scaled = RopeSpec(500000.0).inverse_frequencies(128), rope.inverse_frequencies(128)
    assert scaled[0] == plain[0]
    assert scaled[-1] == pytest.approx(plain[-1] / 8)
    middle = [i for i, f in enumerate(plain) if 8192 / 4 < 2 * math.pi / f < 8192]
    assert all(plain[i] / 8 <= scaled[i] <= plain[i] for i in middle)
    assert middle


def test_parameters_are_counted() -> None:
    spec = ModelSpec("llama", 49152, 576, 1536, 30, 9, 3, 64, 1e-5, RopeSpec(1e4), 8192, True)
    assert spec.num_parameters == pytest.approx(134.5e6, rel=0.01)
