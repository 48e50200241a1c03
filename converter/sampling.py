"""How a model's makers draw its tokens: generation_config.json, or general.sampling.* of a GGUF file."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shadowattn.models.bundle import Sampling

Settings = tuple[Sampling, tuple[str, ...]]  # what is kept, and a sentence for each setting that is not

_TRANSFORMERS_TOP_K = 50  # what transformers draws from where generation_config.json does not say
# Settings that change what is drawn and have no part here -> the values that change nothing.
_OTHERS: dict[str, tuple[Any, ...]] = {
    "min_p": (0,),
    "top_h": (),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "num_beams": (1,),
    "guidance_scale": (1,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "bad_words_ids": (),
    "sequence_bias": (),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "stop_strings": ([],),
}
_GGUF = "general.sampling."
_GGUF_NAMES = {"temp": "temperature", "top_k": "top_k", "top_p": "top_p", "penalty_repeat": "repetition_penalty"}
_GGUF_OTHERS: dict[str, tuple[Any, ...]] = {
    "min_p": (0,),
    "xtc_probability": (0,),
    "mirostat": (0,),
    "penalty_last_n": (-1,),
}


def of_generation_config(path: Path, content: Mapping[str, Any]) -> Settings:
    """As transformers takes it: greedy unless do_sample is true."""
    given = {name: content[name] for name in _names() if content.get(name) is not None}
    if content.get("do_sample") is True:
        given = {"temperature": 1.0, "top_k": _TRANSFORMERS_TOP_K} | given
    else:
        given = {name: value for name, value in given.items() if name == "repetition_penalty"}
    return _settings(str(path / "generation_config.json"), given, _left_out(content, _OTHERS))


def of_gguf(path: Path, metadata: Mapping[str, Any]) -> Settings:
    """As llama.cpp takes it, where the file says anything of it."""
    stated = {key.removeprefix(_GGUF): value for key, value in metadata.items() if key.startswith(_GGUF)}
    given = {_GGUF_NAMES[name]: _shortest(value) for name, value in stated.items() if name in _GGUF_NAMES}
    if given.keys() & {"top_k", "top_p"}:
        given.setdefault("temperature", 1.0)
    return _settings(f"{path}: {_GGUF}*", given, _left_out(stated, _GGUF_OTHERS))


def _settings(where: str, given: Mapping[str, Any], left_out: dict[str, Any]) -> Settings:
    kept = Sampling()
    for name, value in given.items():
        try:
            kept = dataclasses.replace(kept, **{name: _number(name, value)})
        except ValueError:
            left_out[name] = value
    return kept, tuple(
        f"{where} asks for {name} = {value!r:.60}, which shadowattn does not do; it is left out"
        for name, value in left_out.items()
    )


def _left_out(content: Mapping[str, Any], others: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    return {
        name: content[name] for name, neutral in others.items() if content.get(name) is not None
        if content[name] not in neutral
    }  # fmt: skip


def _number(name: str, value: Any) -> Any:
    """Raises ValueError unless `value` is a number of the field's kind."""
    whole = name == "top_k"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number, got {value!r:.60}")
    if whole and value != int(value):
        raise ValueError(f"{name} must be an integer, got {value}")
    return int(value) if whole else float(value)


def _shortest(value: Any) -> Any:
    """The decimal that was meant by a float32."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _names() -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(Sampling))
