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
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


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
        ({"architectures": ["MistralForCausalLM"], "max_position_embeddings": 4097}, "sliding_window=4096"),
        (
            {
                "architectures": ["Qwen2ForCausalLM"],
                "use_sliding_window": True,
                "sliding_window": 9,
                "max_window_layers": 1,
            },
            "sliding-window",
        ),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn' is not supported"),
        ({"rope_scaling": {"type": "llama3", "factor": 4.0}}, "lacks low_freq_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_act": "gelu"}, "'gelu' is not supported"),
        ({"vocab_size": 0}, "vocab_size must be a positive integer, got 0"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers must be a positive integer"),
        ({"num_key_value_heads": 2}, "not a multiple of 2 KV heads"),
        ({"head_dim": 7}, "even"),
        ({"head_dim": 514}, r"head_dim must be in 1\.\.512, got 514"),
        ({"head_dim": "16"}, "head_dim must be a positive integer, got '16'"),
        ({"head_dim": -40}, "head_dim must be a positive integer"),
        ({"num_key_value_heads": -1}, "num_key_value_heads must be a positive integer"),
        ({"num_key_value_heads": 0}, "num_key_value_heads must be a positive integer"),
        ({"num_key_value_heads": "1"}, "num_key_value_heads must be a positive integer"),
        ({"num_attention_heads": 2048, "num_key_value_heads": 1, "head_dim": 8}, r"num_heads must be in 1\.\.1024"),
        ({"num_hidden_layers": 2**31 - 1}, r"num_layers must be in 1\.\.1024"),
        ({"vocab_size": 10**15}, r"vocab_size must be in 1\.\.2147483647"),
        ({"max_position_embeddings": 2**24 + 1}, r"max_length must be in 1\.\.16777216"),
        ({"rms_norm_eps": "x"}, "rms_norm_eps must be a finite number, got 'x'"),
        ({"rms_norm_eps": None}, "rms_norm_eps must be a finite number"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps must be a finite number"),
        ({"rms_norm_eps": -1}, "rms_norm_eps must be finite and positive"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be finite and positive"),
        ({"rope_theta": 0}, "theta must be finite and at least 1"),
        ({"rope_theta": float("inf")}, "rope_theta must be a finite number"),
        ({"rope_scaling": [1]}, r"rope_scaling must be an object, got \[1\]"),
        ({"rope_scaling": {"type": []}}, r"RoPE type \[\] is not supported"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor must be finite and positive"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "factor must be a finite number"),
        ({"rope_scaling": LLAMA3 | {"high_freq_factor": 1.0}}, "low_freq_factor must be positive and below"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 0}}, "low_freq_factor must be positive and below"),
        ({"rope_scaling": LLAMA3 | {"original_max_position_embeddings": -1}}, "must be a positive integer"),
        ({"architectures": [["LlamaForCausalLM"]]}, "is not supported"),
        ({"architectures": 5}, "is not supported"),
    ],
)
def test_what_cannot_be_converted_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_config(BASE | change, "model/config.json")
    assert str(caught.value).startswith("model/config.json: ")


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
