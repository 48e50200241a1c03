"""Which architectures can be converted: a table from a model's type to what is its own, and a reader of their config.

Absent keys mean what transformers takes them for; the weights' shapes are compared with the result afterwards.
"""

import dataclasses
from typing import Any

from shadowattn.models.config_fields import Config, count, number, switch
from shadowattn.models.rope_config import read_rope
from shadowattn.models.spec import ModelSpec

_SILU = ("silu", "swish")  # two names of one function
_FULL_ATTENTION = ("full_attention", "attention")
_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


@dataclasses.dataclass(frozen=True)
class _Family:
    """What one type of model does differently. window: where its config says whether attention has one.

    sizes: what absent keys mean, in the order of _SIZES; kv_heads and head_dim None: they follow from other keys.
    """

    architecture: str
    sizes: tuple[int, int, int, int, int]
    max_length: int
    kv_heads: int | None = None
    head_dim: int | None = None
    window: str | None = None
    attention_bias: str | None = None  # the key that says so
    mlp_bias: str | None = None
    qkv_bias: bool = False
    qk_norm: bool = False


_FAMILIES = {
    "llama": _Family(
        "LlamaForCausalLM", (32000, 4096, 11008, 32, 32), 2048, attention_bias="attention_bias", mlp_bias="mlp_bias"
    ),
    "mistral": _Family("MistralForCausalLM", (32000, 4096, 14336, 32, 32), 131072, kv_heads=8, window="sliding_window"),
    "qwen2": _Family(
        "Qwen2ForCausalLM",
        (151936, 4096, 22016, 32, 32),
        32768,
        kv_heads=32,
        window="use_sliding_window",
        qkv_bias=True,
    ),
    "qwen3": _Family(
        "Qwen3ForCausalLM",
        (151936, 4096, 22016, 32, 32),
        32768,
        kv_heads=32,
        head_dim=128,
        window="use_sliding_window",
        attention_bias="attention_bias",
        qk_norm=True,
    ),
}
ARCHITECTURES = {model_type: family.architecture for model_type, family in _FAMILIES.items()}


def read_config(config: Config, where: str = "config.json") -> ModelSpec:
    """config.json of a Hugging Face model -> ModelSpec. Raises ValueError with `where` for what cannot be converted."""
    try:
        model_type = _model_type(config)
        spec = _read(config, model_type)
        _refuse_contradiction(config, model_type)
        return spec
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _model_type(config: Config) -> str:
    """Of `architectures` where there is one, else of `model_type`."""
    architectures = config.get("architectures")
    name: Any = architectures[0] if isinstance(architectures, list) and architectures else architectures or None
    said = config.get("model_type")
    if name is None and isinstance(said, str) and said in _FAMILIES:
        return said
    for model_type, architecture in ARCHITECTURES.items():
        if isinstance(name, str) and name.lower() == architecture.lower():  # LLaMAForCausalLM is seen
            return model_type
    found = f"none given (model_type {said!r:.60})" if name is None else f"{name!s:.60}"
    code = "; it brings code of its own (auto_map), which is never run" if config.get("auto_map") else ""
    raise ValueError(
        f"architecture {found} is not supported; supported are {', '.join(sorted(ARCHITECTURES.values()))}{code}"
    )


def _refuse_contradiction(config: Config, model_type: str) -> None:
    """transformers goes by model_type alone, and what a model is must not depend on who reads it."""
    said = config.get("model_type")
    if said is not None and said != model_type:
        raise ValueError(
            f"architectures says {ARCHITECTURES[model_type]} and model_type says {said!r:.60}; "
            "correct the one that is wrong"
        )
    if config.get("per_layer_config"):
        raise ValueError("per_layer_config (layers that differ from each other) is not supported; use another model")


def _read(config: Config, model_type: str) -> ModelSpec:
    family = _FAMILIES[model_type]
    sizes = dict(zip(_SIZES, family.sizes, strict=True))
    config = {**sizes, "max_position_embeddings": family.max_length, "tie_word_embeddings": False, **config}
    _refuse_activation(config)
    heads, hidden = count(config, "num_attention_heads"), count(config, "hidden_size")
    spec = ModelSpec(
        family=model_type,
        vocab_size=count(config, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=count(config, "intermediate_size"),
        num_layers=count(config, "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=_kv_heads(config, family, heads),
        head_dim=count(config, "head_dim", family.head_dim or max(hidden // heads, 1)),
        rms_norm_eps=number(config, "rms_norm_eps", 1e-6),
        rope=read_rope(config),
        max_length=count(config, "max_position_embeddings"),
        tied_embeddings=switch(config, "tie_word_embeddings"),
        qk_norm=family.qk_norm,
        **_biases(config, family),
    )
    _refuse_window(config, family, spec)
    return spec


def _kv_heads(config: Config, family: _Family, heads: int) -> int:
    """null: as many as query heads; an absent key: what the family's config class says."""
    absent = family.kv_heads if "num_key_value_heads" not in config else None
    return count(config, "num_key_value_heads", absent or heads)


def _biases(config: Config, family: _Family) -> dict[str, bool]:
    """attention_qkv_bias and attention_output_bias are keys of converter/gguf_config.py, whose tensors say so."""
    both = family.attention_bias is not None and switch(config, family.attention_bias)
    return {
        "qkv_bias": switch(config, "attention_qkv_bias", both or family.qkv_bias),
        "output_bias": switch(config, "attention_output_bias", both),
        "mlp_bias": family.mlp_bias is not None and switch(config, family.mlp_bias),
    }


def _refuse_activation(config: Config) -> None:
    for key in ("hidden_act", "hidden_activation"):
        name = config.get(key, "silu")
        if name not in _SILU and not (name is None and key == "hidden_activation"):
            raise ValueError(f"{key} {name!r:.60} is not supported, wanted 'silu' or 'swish'; use another model")


def _refuse_window(config: Config, family: _Family, spec: ModelSpec) -> None:
    """Refuses what no bundle can do: some layers that see less than everything before them."""
    layers = config.get("layer_types")
    if layers is not None:
        other = [kind for kind in layers if kind not in _FULL_ATTENTION] if isinstance(layers, list) else [layers]
        if other:
            raise ValueError(
                f"layer_types names {other[0]!r:.60}, and only 'full_attention' is supported; use another model"
            )
        return
    first = config.get("max_window_layers", 28)
    if family.window is None or (
        family.window == "use_sliding_window"
        and (not switch(config, "use_sliding_window") or (isinstance(first, int) and first >= spec.num_layers))
    ):
        return
    window = config.get("sliding_window", 4096)
    if window is not None and not (isinstance(window, int) and window >= spec.max_length):  # else nothing lies outside
        raise ValueError(
            f"sliding-window attention (sliding_window={window!r:.60}) is not supported; set it to null only if the "
            "model was trained without it"
        )
