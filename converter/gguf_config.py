"""GGUF metadata -> the keys of Hugging Face's config.json, so that models/families.py reads either format."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shadowattn.converter.weight_names import EMBEDDING, LM_HEAD
from shadowattn.models.families import ARCHITECTURES as ALL_ARCHITECTURES
from shadowattn.models.spec import RopeSpec

ARCHITECTURES = {name: ALL_ARCHITECTURES[name] for name in ("llama", "qwen2", "qwen3")}

_ROPE_FACTORS = ("scaling.factor", "scale_linear")  # the second is the older name
_ROPE_KEYS = (
    "freq_base",
    "dimension_count",
    "scaling.type",
    *_ROPE_FACTORS,
    "scaling.original_context_length",
    "scaling.finetuned",
)
# What would change the graph, with the value that changes nothing; 0 stands for "not used" in most of llama.cpp.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logit_scale": (0, 1),
    "residual_scale": (0, 1),
    "embedding_scale": (0, 1),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.causal": (True,),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "use_parallel_residual": (False,),
}
_BIASES = {
    "attention_qkv_bias": ("q_proj.bias", "k_proj.bias", "v_proj.bias"),
    "attention_output_bias": ("o_proj.bias",),
    "mlp_bias": ("gate_proj.bias", "up_proj.bias", "down_proj.bias"),
}

# GGUF stores the divisors of the frequencies that llama3 scaling yields, not its numbers. Only two ratios of the three
# matter, so the low and the high factor may be those of Llama 3.1, and the original length follows.
_LOW, _HIGH = 1.0, 4.0


def config_from_metadata(
    path: Path, metadata: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], rope_divisors: np.ndarray | None
) -> dict[str, Any]:
    """metadata: the fields of the file; shapes: of its weights, by Hugging Face name; rope_divisors: the tensor
    rope_freqs.weight, if there is one.

    Raises ValueError for an architecture or RoPE type that cannot be converted, or a missing field.
    """
    architecture = _architecture(path, metadata)

    def count(key: str, default: int | None = None) -> int:
        return _count(path, f"{architecture}.{key}", metadata.get(f"{architecture}.{key}", default))

    def number(key: str, default: float | None = None) -> float:
        return _number(path, f"{architecture}.{key}", metadata.get(f"{architecture}.{key}", default))

    heads = count("attention.head_count")
    hidden = count("embedding_length")
    head_dim = count("attention.key_length", max(hidden // heads, 1))
    _refuse_variants(path, architecture, metadata, head_dim)
    config = {
        "architectures": [ARCHITECTURES[architecture]],
        "vocab_size": _vocab_size(path, architecture, metadata, shapes),
        "hidden_size": hidden,
        "intermediate_size": count("feed_forward_length"),
        "num_hidden_layers": count("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": count("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": count("context_length"),
        "tie_word_embeddings": LM_HEAD not in shapes,
        "rope_theta": number("rope.freq_base", 10000.0),
        **{key: any(name.endswith(ends) for name in shapes) for key, ends in _BIASES.items()},
    }
    scaling = _rope_scaling(path, architecture, metadata, config, rope_divisors)
    return config if scaling is None else config | {"rope_scaling": scaling}


def _architecture(path: Path, metadata: Mapping[str, Any]) -> str:
    architecture = str(metadata.get("general.architecture"))
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"{path}: GGUF architecture {architecture!r} is not supported; supported are {', '.join(ARCHITECTURES)}"
        )
    return architecture


def _vocab_size(
    path: Path, architecture: str, metadata: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> int:
    """Rows of the embedding; where it is missing, what the metadata say, so that its absence is what is reported."""
    if EMBEDDING in shapes:
        return shapes[EMBEDDING][0]
    return _count(path, f"{architecture}.vocab_size", metadata.get(f"{architecture}.vocab_size", 1))


def _need_value(path: Path, key: str, value: Any) -> None:
    if value is None:
        raise ValueError(f"{path}: the metadata lack {key}; get the file again")


def _count(path: Path, key: str, value: Any) -> int:
    """A positive integer, or an array that says the same one for every layer."""
    _need_value(path, key, value)
    if hasattr(value, "contents"):  # an array
        layers = list(dict.fromkeys(value.contents()))
        if len(layers) != 1:
            raise ValueError(
                f"{path}: {key} differs from layer to layer ({str(layers)[:60]}), which is not supported; "
                "use another model"
            )
        value = layers[0]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{path}: {key} must be a positive integer, got {value!r:.60}; get the file again")
    return value


def _number(path: Path, key: str, value: Any) -> float:
    _need_value(path, key, value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{path}: {key} must be a finite number, got {value!r:.60}; get the file again")
    return float(value)


def _refuse_variants(path: Path, architecture: str, metadata: Mapping[str, Any], head_dim: int) -> None:
    """What a file of a supported architecture may say that the graphs cannot do."""
    window = metadata.get(f"{architecture}.attention.sliding_window", 0)
    longest = metadata.get(f"{architecture}.context_length")
    if window and not (isinstance(window, int) and isinstance(longest, int) and window >= longest):
        raise ValueError(
            f"{path}: sliding-window attention (window {window!s:.60}) is not supported; use another model"
        )
    rotary = metadata.get(f"{architecture}.rope.dimension_count", head_dim)
    if rotary != head_dim:
        raise ValueError(f"{path}: partial rotary embedding ({rotary} of {head_dim} dimensions) is not supported")
    if metadata.get(f"{architecture}.attention.value_length", head_dim) != head_dim:
        raise ValueError(f"{path}: values of another head dimension than keys are not supported")
    scale = metadata.get(f"{architecture}.attention.scale")
    if scale and abs(scale - head_dim**-0.5) > 1e-6:
        raise ValueError(f"{path}: an attention scale of {scale} is not supported, wanted {head_dim}**-0.5")
    if metadata.get(f"{architecture}.expert_count"):
        raise ValueError(f"{path}: mixture-of-experts models are not supported; use a dense model")
    for key, neutral in _NEUTRAL.items():
        value = metadata.get(f"{architecture}.{key}", neutral[0])
        if value not in neutral:
            raise ValueError(f"{path}: {architecture}.{key} = {value!r:.60} is not supported; use another model")


def _rope_scaling(
    path: Path, architecture: str, metadata: Mapping[str, Any], config: Mapping[str, Any], divisors: np.ndarray | None
) -> dict[str, Any] | None:
    """As llama.cpp: a factor without a type is linear, and type none ignores it."""
    rope = f"{architecture}.rope."
    _refuse_rope_keys(path, rope, metadata)
    kind = metadata.get(f"{rope}scaling.type", "linear")
    if kind not in ("none", "linear"):
        raise ValueError(f"{path}: RoPE scaling {kind!r} is not supported; supported are linear, llama3 and none")
    key = next((key for key in _ROPE_FACTORS if f"{rope}{key}" in metadata), _ROPE_FACTORS[0])
    factor = _number(path, f"{rope}{key}", metadata.get(f"{rope}{key}", 0.0)) if kind == "linear" else 0.0
    if divisors is not None:
        if factor not in (0.0, 1.0):
            raise ValueError(
                f"{path}: RoPE scaling both by rope_freqs.weight and by {rope}{key} = {factor} is not supported; "
                "use another model"
            )
        return _llama3_scaling(path, config, divisors)
    return {"rope_type": "linear", "factor": factor} if factor else None


def _refuse_rope_keys(path: Path, rope: str, metadata: Mapping[str, Any]) -> None:
    """Refuses what the file says about RoPE that this converter does not know and so cannot follow."""
    attention_factor = f"{rope}scaling.attn_factor"
    for key in metadata:
        if key.startswith(rope) and key.removeprefix(rope) not in _ROPE_KEYS and key != attention_factor:
            raise ValueError(f"{path}: {key} is not supported; known are {', '.join(_ROPE_KEYS)}, use another model")
    if metadata.get(attention_factor, 1.0) != 1.0:
        raise ValueError(f"{path}: {attention_factor} other than 1.0 is not supported; use another model")


def _llama3_scaling(path: Path, config: Mapping[str, Any], divisors: np.ndarray) -> dict[str, Any] | None:
    """The llama3 scaling that yields these divisors of the plain frequencies, None for ones. Raises ValueError."""
    theta, head_dim = config["rope_theta"], config["head_dim"]
    divisors = divisors.reshape(-1).astype(np.float64)
    if divisors.size != head_dim // 2 or not np.isfinite(divisors).all() or divisors.min() <= 0:
        raise ValueError(f"{path}: rope_freqs.weight must be {head_dim // 2} positive numbers; get the file again")
    if (divisors == 1).all():
        return None
    plain = np.array(RopeSpec(theta).inverse_frequencies(head_dim))
    factor, original = float(divisors.max()), _original_length(plain, divisors)
    rope = RopeSpec(theta, "llama3", factor, _LOW, _HIGH, original)
    if not np.allclose(divisors, plain / np.array(rope.inverse_frequencies(head_dim)), rtol=1e-3):
        raise ValueError(
            f"{path}: rope_freqs.weight is not the llama3 scaling this converter knows; "
            "convert the model's Hugging Face directory instead"
        )
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": _LOW,
        "high_freq_factor": _HIGH,
        "original_max_position_embeddings": original,
    }


def _original_length(plain: np.ndarray, divisors: np.ndarray) -> int:
    """The length that gives the divisors between 1 and the factor; any that fits if no divisor is between."""
    factor, wavelengths = divisors.max(), 2 * math.pi / plain
    between = (divisors > 1) & (divisors < factor * (1 - 1e-6))
    if not between.any():
        kept = wavelengths[divisors == 1]
        return max(1, math.ceil(_HIGH * kept.max()) + 1) if kept.size else 1
    middle = np.flatnonzero(between)[between.sum() // 2]
    smooth = (1 / divisors[middle] - 1 / factor) / (1 - 1 / factor)
    return max(1, round(float(wavelengths[middle] * (smooth * (_HIGH - _LOW) + _LOW))))
