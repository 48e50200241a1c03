"""Which architectures can be converted: a registry from `architectures[0]` of config.json to a reader of its config."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from shadowattn.models.spec import ModelSpec, RopeSpec

Config = Mapping[str, Any]


def read_config(config: Config) -> ModelSpec:
    """config.json of a Hugging Face model -> ModelSpec. Raises ValueError for what cannot be converted."""
    architectures = config.get("architectures") or []
    name = architectures[0] if architectures else "none given"
    if name not in FAMILIES:
        raise ValueError(
            f"config.json: architecture {name} is not supported; supported are {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[name](config)


def _llama(config: Config) -> ModelSpec:
    attention_bias = bool(config.get("attention_bias", False))
    return dataclasses.replace(
        _decoder(config, "llama"),
        qkv_bias=attention_bias,
        output_bias=attention_bias,
        mlp_bias=bool(config.get("mlp_bias", False)),
    )


def _qwen2(config: Config) -> ModelSpec:
    _refuse_window(config, bool(config.get("use_sliding_window", False)))
    return dataclasses.replace(_decoder(config, "qwen2"), qkv_bias=True)


def _qwen3(config: Config) -> ModelSpec:
    _refuse_window(config, bool(config.get("use_sliding_window", False)))
    attention_bias = bool(config.get("attention_bias", False))
    return dataclasses.replace(
        _decoder(config, "qwen3", head_dim=128), qk_norm=True, qkv_bias=attention_bias, output_bias=attention_bias
    )


def _mistral(config: Config) -> ModelSpec:
    # An absent key means 4,096 there (the default of the family); only an explicit null is "no window".
    _refuse_window(config, config.get("sliding_window", 4096) is not None)
    return _decoder(config, "mistral")


FAMILIES: dict[str, Callable[[Config], ModelSpec]] = {
    "LlamaForCausalLM": _llama,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3,
    "MistralForCausalLM": _mistral,
}


def _refuse_window(config: Config, used: bool) -> None:
    if used:
        raise ValueError(
            f"config.json: sliding-window attention (sliding_window={config.get('sliding_window', 4096)}) is not "
            "supported; set it to null only if the model was trained without it"
        )


def _decoder(config: Config, family: str, head_dim: int | None = None) -> ModelSpec:
    """What all families share."""
    activation = config.get("hidden_act", "silu")
    if activation != "silu":
        raise ValueError(f"config.json: hidden_act {activation!r} is not supported, wanted 'silu'")
    heads = _positive(config, "num_attention_heads")
    hidden = _positive(config, "hidden_size")
    return ModelSpec(
        family=family,
        vocab_size=_positive(config, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=_positive(config, "intermediate_size"),
        num_layers=_positive(config, "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or head_dim or hidden // heads),
        rms_norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        rope=_rope(config),
        max_length=_positive(config, "max_position_embeddings"),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
    )


def _positive(config: Config, key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"config.json: {key} must be a positive integer, got {value!r}")
    return value


def _rope(config: Config) -> RopeSpec:
    """Reads rope_theta and rope_scaling, or rope_parameters (transformers 5), which holds both."""
    scaling: dict[str, Any] = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    theta = float(_either(scaling, config, "rope_theta", 10000.0))
    if kind not in ("default", "linear", "llama3"):
        raise ValueError(f"config.json: RoPE type {kind!r} is not supported; supported are default, linear, llama3")
    if float(_either(scaling, config, "partial_rotary_factor", 1.0)) != 1.0:
        raise ValueError("config.json: partial_rotary_factor other than 1.0 is not supported")
    if kind == "default":
        return RopeSpec(theta)
    needed = ["factor"] if kind == "linear" else ["factor", "low_freq_factor", "high_freq_factor"]
    missing = [key for key in needed if key not in scaling]
    if missing:
        raise ValueError(f"config.json: RoPE type {kind!r} lacks {', '.join(missing)}")
    return RopeSpec(
        theta,
        kind,
        float(scaling["factor"]),
        float(scaling.get("low_freq_factor", 1.0)),
        float(scaling.get("high_freq_factor", 4.0)),
        int(scaling.get("original_max_position_embeddings") or _positive(config, "max_position_embeddings")),
    )


def _either(scaling: Config, config: Config, key: str, default: float) -> Any:
    return scaling[key] if key in scaling else config.get(key, default)
