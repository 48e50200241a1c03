"""A model on disk, seen the same way whatever its format: config, weights by Hugging Face name, tokenizer, origin.

Opening one (converter/formats.py) reads headers only; weights are read one at a time, as float32, when asked for.
"""

import abc
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shadowattn.converter.weight_names import EMBEDDING, LM_HEAD
from shadowattn.models.bundle import Sampling
from shadowattn.models.spec import ModelSpec

Shape = tuple[int, ...]

# Buffers that are computed from the config, and scales that only a quantised run or a quantised cache would use.
_NOT_NEEDED = re.compile(
    r"rotary_emb\.inv_freq$"
    r"|\.(input|output)_scale$"
    r"|\.self_attn\.(attn\.|\w+_proj\.)?(q|k|v|kv|kv_cache|prob)_(scale|zero_point)$"
)


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a model comes from, for the manifest."""

    name: str
    source: str
    licence: str


@dataclasses.dataclass(frozen=True)
class TokenizerFiles:
    """What a bundle needs of a tokenizer. json: text of tokenizer.json; chat_template: Jinja text, if there is one.

    warnings: what a user should know about it, a sentence each. chat_adds_bos: a conversation begins with BOS even
    where the chat template does not write it. stop_tokens: texts of tokens that end an answer, beside the ids that the
    checkpoint states.
    """

    json: str
    chat_template: str | None
    special_tokens: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    chat_adds_bos: bool = False
    stop_tokens: tuple[str, ...] = ()


class Checkpoint(abc.ABC):
    """One model on disk. `config` has the keys of Hugging Face's config.json.

    warnings: what a user should know about its weights and settings, a sentence each.
    """

    path: Path
    config: Mapping[str, Any]
    bos_token_id: int | None
    stop_token_ids: tuple[int, ...]
    sampling: Sampling = Sampling()
    warnings: tuple[str, ...] = ()

    @property
    @abc.abstractmethod
    def origin(self) -> Origin:
        """Name, source and licence."""

    @abc.abstractmethod
    def shapes(self) -> Mapping[str, Shape]:
        """Every weight by its Hugging Face name."""

    @abc.abstractmethod
    def read(self, name: str) -> np.ndarray:
        """One weight as float32. Raises ValueError that names file and weight if it cannot be read."""

    @abc.abstractmethod
    def tokenizer(self) -> TokenizerFiles | None:
        """The tokenizer; None where the model has none. Raises ValueError if it is damaged."""

    def missing(self, name: str) -> str:
        """The sentence about a weight that shapes() lacks."""
        if name == LM_HEAD:
            return (
                f"{self.path}: {LM_HEAD} is missing, and tie_word_embeddings is false; get the model's files again, or "
                "set it to true if the model was trained with one matrix for both"
            )
        held = ", ".join(sorted(self.shapes())[:2])
        return (
            f"{self.path}: weight {name} is missing (the config asks for it), the files begin with {held:.120}; "
            "get the model's files again"
        )


def expected_weights(spec: ModelSpec) -> dict[str, Shape]:
    """Hugging Face name -> shape of every weight that a model of this spec has."""
    hidden, mlp = spec.hidden_size, spec.intermediate_size
    wide, narrow = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    linear: dict[str, tuple[int, int, bool]] = {
        "self_attn.q_proj": (wide, hidden, spec.qkv_bias),
        "self_attn.k_proj": (narrow, hidden, spec.qkv_bias),
        "self_attn.v_proj": (narrow, hidden, spec.qkv_bias),
        "self_attn.o_proj": (hidden, wide, spec.output_bias),
        "mlp.gate_proj": (mlp, hidden, spec.mlp_bias),
        "mlp.up_proj": (mlp, hidden, spec.mlp_bias),
        "mlp.down_proj": (hidden, mlp, spec.mlp_bias),
    }
    in_layer: dict[str, Shape] = {"input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,)}
    for name, (rows, columns, bias) in linear.items():
        in_layer[f"{name}.weight"] = (rows, columns)
        if bias:
            in_layer[f"{name}.bias"] = (rows,)
    if spec.qk_norm:
        in_layer |= {"self_attn.q_norm.weight": (spec.head_dim,), "self_attn.k_norm.weight": (spec.head_dim,)}
    wanted = {EMBEDDING: (spec.vocab_size, hidden), "model.norm.weight": (hidden,)}
    if not spec.tied_embeddings:
        wanted[LM_HEAD] = (spec.vocab_size, hidden)
    for layer in range(spec.num_layers):
        wanted |= {f"model.layers.{layer}.{name}": shape for name, shape in in_layer.items()}
    return wanted


def check_weights(checkpoint: Checkpoint, spec: ModelSpec) -> tuple[str, ...]:
    """Every weight is there with its shape, and none of the model is left over. Raises ValueError for the first fault.

    Returns what a user should know, a sentence each.
    """
    found = checkpoint.shapes()
    wanted = expected_weights(spec)
    for name, shape in wanted.items():
        if name not in found:
            raise ValueError(checkpoint.missing(name))
        if tuple(found[name]) != shape:
            raise ValueError(
                f"{checkpoint.path}: weight {name} has shape {tuple(found[name])}, the config asks for {shape}; "
                "config and weights do not belong together"
            )
    others = [name for name in found if name not in wanted and not _NOT_NEEDED.search(name)]
    for name in others:
        if name.startswith(("model.", "lm_head.")):
            raise ValueError(f"{checkpoint.path}: {_why_left_over(name, spec)}")
    if not others:
        return ()
    named = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    return (f"{checkpoint.path}: {named:.200} belong to no {spec.family} model and are left out",)


def _why_left_over(name: str, spec: ModelSpec) -> str:
    if name.endswith(".bias"):
        return (
            f"weight {name} has no place, as config.json says nothing of such a bias in a {spec.family} model; "
            "correct the config (attention_bias, mlp_bias) if the model was trained with it, else use another model"
        )
    return (
        f"weight {name} has no place in a {spec.family} model of {spec.num_layers} layers; "
        "config and weights do not belong together, or the architecture is a variant that is not supported"
    )


def finite(weight: np.ndarray, where: str) -> np.ndarray:
    """The weight itself. Raises ValueError if it holds NaN or infinity."""
    if not np.isfinite(weight).all():
        raise ValueError(f"{where} holds NaN or infinity; the file is damaged, get it again")
    return weight
