"""GGUF metadata -> the keys of Hugging Face's config.json, so that models/families.py reads both formats alike."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shadowattn.models.spec import RopeSpec

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}

# Llama 3.1 and 3.2 all use these; GGUF stores the resulting divisors of the frequencies, not the numbers.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def config_from_metadata(
    path: Path, metadata: Mapping[str, Any], tied: bool, rope_divisors: np.ndarray | None
) -> dict[str, Any]:
    """metadata: the scalar fields of the file; rope_divisors: the tensor rope_freqs.weight, if there is one.

    Raises ValueError for an architecture or RoPE type that cannot be converted, or a missing field.
    """
    architecture = str(metadata.get("general.architecture"))
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"{path}: GGUF architecture {architecture!r} is not supported; supported are {', '.join(ARCHITECTURES)}"
        )

    def field(key: str, default: Any = None) -> Any:
        value = metadata.get(f"{architecture}.{key}", default)
        if value is None:
            raise ValueError(f"{path}: the metadata lack {architecture}.{key}; get the file again")
        return value

    heads = int(field("attention.head_count"))
    hidden = int(field("embedding_length"))
    head_dim = int(field("attention.key_length", hidden // heads))
    _refuse_variants(path, architecture, metadata, head_dim)
    config = {
        "architectures": [ARCHITECTURES[architecture]],
        "vocab_size": _vocab_size(path, architecture, metadata),
        "hidden_size": hidden,
        "intermediate_size": int(field("feed_forward_length")),
        "num_hidden_layers": int(field("block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(field("attention.head_count_kv", heads)),
        "head_dim": head_dim,
        "rms_norm_eps": float(field("attention.layer_norm_rms_epsilon")),
        "max_position_embeddings": int(field("context_length")),
        "tie_word_embeddings": tied,
        "rope_theta": float(field("rope.freq_base", 10000.0)),
    }
    scaling = _rope_scaling(path, architecture, metadata, config, rope_divisors)
    return config if scaling is None else config | {"rope_scaling": scaling}


def _vocab_size(path: Path, architecture: str, metadata: Mapping[str, Any]) -> int:
    size = metadata.get(f"{architecture}.vocab_size")
    if size is None and (tokens := metadata.get("tokenizer.ggml.tokens")) is not None:
        size = len(tokens.data)
    if size is None:
        raise ValueError(f"{path}: the metadata lack {architecture}.vocab_size and a token list; get the file again")
    return int(size)


def _refuse_variants(path: Path, architecture: str, metadata: Mapping[str, Any], head_dim: int) -> None:
    """What a file of a supported architecture may say that the graphs cannot do."""
    window = metadata.get(f"{architecture}.attention.sliding_window")
    if window:
        raise ValueError(f"{path}: sliding-window attention (window {window}) is not supported; use another model")
    rotary = metadata.get(f"{architecture}.rope.dimension_count", head_dim)
    if int(rotary) != head_dim:
        raise ValueError(f"{path}: partial rotary embedding ({rotary} of {head_dim} dimensions) is not supported")
    if int(metadata.get(f"{architecture}.attention.value_length", head_dim)) != head_dim:
        raise ValueError(f"{path}: values of another head dimension than keys are not supported")
    if metadata.get(f"{architecture}.expert_count"):
        raise ValueError(f"{path}: mixture-of-experts models are not supported; use a dense model")


def _rope_scaling(
    path: Path, architecture: str, metadata: Mapping[str, Any], config: Mapping[str, Any], divisors: np.ndarray | None
) -> dict[str, Any] | None:
    kind = str(metadata.get(f"{architecture}.rope.scaling.type", "none"))
    if divisors is not None:
        return _llama3_scaling(path, config, divisors)
    if kind == "none":
        return None
    factor = metadata.get(f"{architecture}.rope.scaling.factor")
    if kind == "linear" and factor:
        return {"rope_type": "linear", "factor": float(factor)}
    raise ValueError(f"{path}: RoPE scaling {kind!r} is not supported; supported are none, linear and llama3")


def _llama3_scaling(path: Path, config: Mapping[str, Any], divisors: np.ndarray) -> dict[str, Any]:
    """The llama3 scaling that yields these divisors of the plain frequencies. Raises ValueError if there is none."""
    theta, head_dim = config["rope_theta"], config["head_dim"]
    scaling = {"rope_type": "llama3", "factor": float(divisors.max()), **_LLAMA3}
    rope = RopeSpec(
        theta,
        "llama3",
        float(divisors.max()),
        _LLAMA3["low_freq_factor"],
        _LLAMA3["high_freq_factor"],
        int(_LLAMA3["original_max_position_embeddings"]),
    )
    plain = np.array(RopeSpec(theta).inverse_frequencies(head_dim))
    wanted = plain / np.array(rope.inverse_frequencies(head_dim))
    if divisors.size != wanted.size or not np.allclose(divisors.reshape(-1), wanted, rtol=1e-3):
        raise ValueError(
            f"{path}: rope_freqs.weight is not the llama3 scaling this converter knows; "
            "convert the model's Hugging Face directory instead"
        )
    return scaling
