"""Which architectures can be converted: a registry from `architectures[0]` of config.json to a reader of its config."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

from shadowattn.models.spec import ModelSpec, RopeSpec

Config = Mapping[str, Any]


def read_config(config: Config, where: str = "config.json") -> ModelSpec:
    """config.json of a Hugging Face model -> ModelSpec. Raises ValueError with `where` for what cannot be converted."""
    architectures = config.get("architectures")
    name = architectures[0] if isinstance(architectures, list) and architectures else architectures or "none given"
    if not isinstance(name, str) or name not in FAMILIES:
        raise ValueError(
            f"{where}: architecture {name!s:.60} is not supported; supported are {', '.join(sorted(FAMILIES))}"
        )
    try:
        return FAMILIES[name](config)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


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
            f"sliding-window attention (sliding_window={config.get('sliding_window', 4096)}) is not "
            "supported; set it to null only if the model was trained without it"
        )


def _decoder(config: Config, family: str, head_dim: int | None = None) -> ModelSpec:
    """What all families share."""
    activation = config.get("hidden_act", "silu")
    if activation != "silu":
        raise ValueError(f"hidden_act {activation!r} is not supported, wanted 'silu'")
    heads = _positive(config, "num_attention_heads")
    hidden = _positive(config, "hidden_size")
    return ModelSpec(
        family=family,
        vocab_size=_positive(config, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=_positive(config, "intermediate_size"),
        num_layers=_positive(config, "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=_positive(config, "num_key_value_heads", heads),
        head_dim=_positive(config, "head_dim", head_dim or hidden // heads),
        rms_norm_eps=_number(config, "rms_norm_eps", 1e-6),
        rope=_rope(config),
        max_length=_positive(config, "max_position_embeddings"),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
    )


def _positive(config: Config, key: str, default: int | None = None) -> int:
    """default: what an absent key or null means; None: it has to be there."""
    value = config.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key} must be a positive integer, got {value!r:.60}; get the model's config again")
    return value


def _number(config: Config, key: str, default: float) -> float:
    value = config.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > sys.float_info.max:
        raise ValueError(f"{key} must be a finite number, got {value!r:.60}; get the model's config again")
    return float(value)


def _rope(config: Config) -> RopeSpec:
    """Reads rope_theta and rope_scaling, or rope_parameters (transformers 5), which holds both."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(scaling, dict):
        raise ValueError(f"rope_parameters or rope_scaling must be an object, got {scaling!r:.60}")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise ValueError(f"RoPE type {kind!r} is not supported; supported are default, linear, llama3")
    both = {**config, **scaling}
    theta = _number(both, "rope_theta", 10000.0)
    if _number(both, "partial_rotary_factor", 1.0) != 1.0:
        raise ValueError("partial_rotary_factor other than 1.0 is not supported")
    if kind == "default":
        return RopeSpec(theta)
    needed = ["factor"] if kind == "linear" else ["factor", "low_freq_factor", "high_freq_factor"]
    missing = [key for key in needed if key not in scaling]
    if missing:
        raise ValueError(f"RoPE type {kind!r} lacks {', '.join(missing)}")
    return RopeSpec(
        theta,
        kind,
        _number(scaling, "factor", 1.0),
        _number(scaling, "low_freq_factor", 1.0),
        _number(scaling, "high_freq_factor", 4.0),
        _positive(scaling, "original_max_position_embeddings", _positive(config, "max_position_embeddings")),
    )
