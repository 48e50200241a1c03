"""A8: every spelling of a config.json means what transformers takes it for, or is refused with the reason.

Reference: the config and the shapes of the model that transformers makes of the same file.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from shadowattn.converter.checkpoint import expected_weights
from shadowattn.models.families import read_config
from shadowattn.models.spec import ModelSpec

BASE = {
    "vocab_size": 99,
    "hidden_size": 60,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
}
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
ABSENT = object()


def config(family: str, changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (BASE | {"model_type": family} | changes).items() if value is not ABSENT}


def theirs(content: dict[str, Any], folder: Path) -> Any:
    """The model that transformers makes of a config.json, without weights."""
    (folder / "config.json").write_text(json.dumps(content))
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))


def check_equal(spec: ModelSpec, model: Any) -> None:
    """Weights and their shapes, and what no shape shows."""
    state = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if spec.tied_embeddings:
        state.pop("lm_head.weight")
    assert expected_weights(spec) == state
    assert spec.tied_embeddings == model.config.tie_word_embeddings
    assert spec.rms_norm_eps == model.config.rms_norm_eps
    assert spec.max_length == model.config.max_position_embeddings
    attention, mlp = model.model.layers[0].self_attn, model.model.layers[0].mlp
    assert (spec.head_dim, spec.softmax_scale) == (attention.head_dim, attention.scaling)
    x = torch.linspace(-6, 6, 101)
    torch.testing.assert_close(mlp.act_fn(x), torch.nn.functional.silu(x))


# Every row for every family; `ABSENT` leaves a key out.
TAKEN: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no architectures": {"architectures": ABSENT},
    "architectures null": {"architectures": None},
    "architectures empty": {"architectures": []},
    "swish": {"hidden_act": "swish"},
    "hidden_act absent": {"hidden_act": ABSENT},
    "hidden_activation, the same function": {"hidden_activation": "silu"},
    "hidden_activation null": {"hidden_activation": None},
    "head_dim of its own": {"head_dim": 16},
    "as many KV heads": {"num_key_value_heads": 5},
    "norm epsilon": {"rms_norm_eps": 1e-5},
    "norm epsilon absent": {"rms_norm_eps": ABSENT},
    "tied": {"tie_word_embeddings": True},
    "torch_dtype": {"torch_dtype": "bfloat16"},
    "dtype": {"dtype": "float16"},
    "torch_dtype null": {"torch_dtype": None, "dtype": None},
    "no longest length": {"max_position_embeddings": ABSENT, "sliding_window": None},
    "no vocabulary size": {"vocab_size": ABSENT},
    "no layers": {"num_hidden_layers": ABSENT},
    "no inner size": {"intermediate_size": ABSENT},
    "window null": {"sliding_window": None},
    "window as long as the context": {"sliding_window": 512},
    "windows switched off": {"sliding_window": None, "use_sliding_window": False, "max_window_layers": 1},
    "switched on for layers that are not there": {
        "use_sliding_window": True,
        "sliding_window": 512,
        "max_window_layers": 2,
    },
    "code of its own, and a type that needs none": {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}},
    "keys that are someone else's": {"pretraining_tp": 2, "is_decoder": True, "use_cache": False, "foo": {"bar": 1}},
    "null where null is nothing": {"quantization_config": None, "rope_scaling": None, "pad_token_id": None},
}
OF_ONE_FAMILY: dict[str, tuple[str, dict[str, Any]]] = {
    "llama: head_dim null": ("llama", {"head_dim": None}),
    "llama: KV heads absent": ("llama", {"num_key_value_heads": ABSENT}),
    "llama: KV heads null": ("llama", {"num_key_value_heads": None}),
    "llama: attention_bias": ("llama", {"attention_bias": True}),
    "llama: mlp_bias": ("llama", {"mlp_bias": True}),
    "llama: a window is no key of it": ("llama", {"sliding_window": 9}),
    "mistral: head_dim null": ("mistral", {"head_dim": None}),
    "mistral: KV heads absent mean 8": (
        "mistral",
        {"num_key_value_heads": ABSENT, "num_attention_heads": 16, "head_dim": 8},
    ),
    "mistral: attention_bias is no key of it": ("mistral", {"attention_bias": True}),
    "mistral: window absent and the context shorter": ("mistral", {"sliding_window": ABSENT}),
    "qwen2: KV heads null": ("qwen2", {"num_key_value_heads": None}),
    "qwen2: KV heads absent mean 32": (
        "qwen2",
        {"num_key_value_heads": ABSENT, "num_attention_heads": 64, "head_dim": 8},
    ),
    "qwen2: bias whatever the config says": ("qwen2", {"attention_bias": False}),
    "qwen2: a window that is switched off": ("qwen2", {"sliding_window": 9, "max_window_layers": 1}),
    "qwen2: a window from layer 2 of 2 on": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2},
    ),
    "qwen2: layer types": ("qwen2", {"layer_types": ["full_attention"] * 2}),
    "qwen3: head_dim absent means 128": ("qwen3", {}),
    "qwen3: attention_bias": ("qwen3", {"attention_bias": True}),
    "qwen3: older names of layer types": ("qwen3", {"layer_types": ["attention"] * 2}),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("changes", TAKEN.values(), ids=TAKEN.keys())
def test_taken_as_transformers_does(changes: dict[str, Any], family: str, tmp_path: Path) -> None:
    content = config(family, {"architectures": [ARCHITECTURES[family]]} | changes)
    check_equal(read_config(content), theirs(content, tmp_path))


@pytest.mark.parametrize(("family", "changes"), OF_ONE_FAMILY.values(), ids=OF_ONE_FAMILY.keys())
def test_taken_as_transformers_does_in_one_family(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    content = config(family, changes)
    check_equal(read_config(content), theirs(content, tmp_path))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "neither architectures nor model_type": (
        {"model_type": ABSENT},
        r"architecture none given \(model_type None\) is not supported; supported are LlamaForCausalLM",
    ),
    "another model_type": ({"model_type": "gemma"}, r"architecture none given \(model_type 'gemma'\)"),
    "another architecture": ({"architectures": ["LlamaForSequenceClassification"]}, "ForSequenceClassification is not"),
    "a model without head": ({"architectures": ["LlamaModel"]}, "architecture LlamaModel is not supported"),
    "a type that contradicts the architecture": (
        {"architectures": ["LlamaForCausalLM"], "model_type": "qwen2"},
        "architectures says LlamaForCausalLM and model_type says 'qwen2'; correct the one that is wrong",
    ),
    "code of its own": (
        {"model_type": "mine", "architectures": ["MyForCausalLM"], "auto_map": {"AutoConfig": "x.Y"}},
        r"architecture MyForCausalLM is not supported.*it brings code of its own \(auto_map\), which is never run",
    ),
    "gelu": ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported, wanted 'silu' or 'swish'"),
    "silu in capitals": ({"hidden_act": "SiLU"}, "hidden_act 'SiLU' is not supported"),
    "activation null": ({"hidden_act": None}, "hidden_act None is not supported"),
    "another hidden_activation": ({"hidden_activation": "gelu_pytorch_tanh"}, "hidden_activation 'gelu_pytorch_tanh'"),
    "layers that differ": (
        {"per_layer_config": {"0": {"intermediate_size": 64}}},
        "per_layer_config .* is not supported",
    ),
    "a bias as text": ({"attention_bias": "false"}, "attention_bias must be true or false, got 'false'"),
    "a size as text": ({"hidden_size": "60"}, "hidden_size must be a positive integer, got '60'"),
    "a size with a point": ({"hidden_size": 60.0}, r"hidden_size must be a positive integer, got 60\.0"),
    "a size of null": ({"vocab_size": None}, "vocab_size must be a positive integer, got None"),
    "epsilon null": ({"rms_norm_eps": None}, "rms_norm_eps must be a finite number, got None"),
    "heads that do not divide": ({"num_key_value_heads": 2}, "5 query heads are not a multiple of 2 KV heads"),
    "a window": ({"model_type": "mistral", "sliding_window": 511}, r"sliding-window attention \(sliding_window=511\)"),
    "the window of an absent key": (
        {"model_type": "mistral", "max_position_embeddings": 4097},
        r"sliding-window attention \(sliding_window=4096\)",
    ),
    "a window of some layers": (
        {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1},
        r"sliding-window attention \(sliding_window=64\)",
    ),
    "a window of every layer": (
        {"model_type": "qwen3", "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0},
        "sliding-window attention",
    ),
    "layer types with windows": (
        {"model_type": "qwen3", "layer_types": ["full_attention", "sliding_attention"]},
        "layer_types names 'sliding_attention', and only 'full_attention' is supported",
    ),
    "a switch as text": (
        {"model_type": "qwen2", "use_sliding_window": "no"},
        "use_sliding_window must be true or false",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_the_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_config(config("llama", changes), "folder/config.json")
    assert str(caught.value).startswith("folder/config.json: ")
    assert "\n" not in str(caught.value)
