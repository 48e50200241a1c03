"""A7: RoPE's frequencies are those of transformers 5 for every spelling, or the key that is not understood is named.

Reference: the rotary embedding that transformers makes of the same config.json.
"""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from shadowattn.models.families import read_config

SEED = 20261130
TOLERANCE = 16 * np.finfo(np.float32).eps  # transformers computes them in float32
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
BASE = {
    "vocab_size": 99,
    "hidden_size": 240,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "num_key_value_heads": 1,
    "max_position_embeddings": 4096,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ORIGINAL = {"original_max_position_embeddings": 512}
LINEAR = {"type": "linear", "factor": 4.0}


def theirs(config: dict[str, Any], folder: Path) -> np.ndarray:
    """[head_dim / 2] of the model that transformers makes of a config.json."""
    (folder / "config.json").write_text(json.dumps(config))
    loaded = transformers.AutoConfig.from_pretrained(folder)
    module = importlib.import_module(f"transformers.models.{loaded.model_type}.modeling_{loaded.model_type}")
    rotary = getattr(module, f"{loaded.model_type.capitalize()}RotaryEmbedding")(loaded)
    assert rotary.attention_scaling == 1.0
    return rotary.inv_freq.numpy()


def ours(config: dict[str, Any]) -> np.ndarray:
    spec = read_config(config)
    return np.array(spec.rope.inverse_frequencies(spec.head_dim))


TAKEN: dict[str, dict[str, Any]] = {
    "nothing said": {},
    "theta": {"rope_theta": 5e5},
    "theta as an integer": {"rope_theta": 500000},
    "null scaling": {"rope_scaling": None, "rope_parameters": None},
    "empty scaling": {"rope_scaling": {}, "rope_theta": 5e5},
    "theta in the dictionary": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "theta in both places": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, "rope_theta": 7e4},
    "theta beside rope_parameters": {"rope_parameters": {"rope_type": "default"}, "rope_theta": 7e4},
    "null theta beside one inside": {"rope_parameters": {"rope_theta": 5e5}, "rope_theta": None},
    "linear, by type": {"rope_scaling": LINEAR},
    "linear, by rope_type": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "linear in rope_parameters": {"rope_parameters": LINEAR | {"rope_theta": 5e5}},
    "linear, integer factor": {"rope_scaling": {"type": "linear", "factor": 4}},
    "linear, factor below 1": {"rope_scaling": {"type": "linear", "factor": 0.5}},
    "linear with the original length inside": {"rope_scaling": LINEAR | ORIGINAL},
    "linear with the original length beside": {"rope_scaling": LINEAR} | ORIGINAL,
    "rope_type before type": {"rope_scaling": {"type": "llama3", "rope_type": "linear", "factor": 4.0}},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 4.0}, "rope_theta": 5e5},
    "llama3 without the original length": {"rope_scaling": LLAMA3},
    "llama3, original length inside": {"rope_scaling": LLAMA3 | ORIGINAL},
    "llama3, original length beside": {"rope_scaling": LLAMA3} | ORIGINAL,
    "llama3, original length beside, theta inside": {"rope_parameters": LLAMA3 | {"rope_theta": 5e5}} | ORIGINAL,
    "llama3, original lengths that differ": {
        "rope_scaling": LLAMA3 | {"original_max_position_embeddings": 1024},
        **ORIGINAL,
    },
    "llama3, by type": {"rope_scaling": {k: v for k, v in LLAMA3.items() if k != "rope_type"} | {"type": "llama3"}},
    "llama3, other factors": {"rope_scaling": LLAMA3 | ORIGINAL | {"low_freq_factor": 2, "high_freq_factor": 3.5}},
    "both dictionaries": {"rope_scaling": LINEAR, "rope_parameters": LLAMA3 | {"rope_theta": 5e5}},
    "a key of null": {"rope_scaling": LLAMA3 | ORIGINAL | {"attention_factor": None}},
    "an attention factor of 1": {"rope_scaling": LLAMA3 | ORIGINAL | {"attention_factor": 1.0}},
    "a factor of 1 without a type": {"rope_scaling": {"factor": 1.0}},
    "the whole head is rotated": {"partial_rotary_factor": 1.0},
    "null partial factor": {"partial_rotary_factor": None},
    "the whole head is rotated, inside": {"rope_parameters": {"rope_theta": 5e5, "partial_rotary_factor": 1.0}},
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("changes", TAKEN.values(), ids=TAKEN.keys())
def test_frequencies_are_those_of_transformers(changes: dict[str, Any], family: str, tmp_path: Path) -> None:
    config = BASE | {"model_type": family} | changes
    np.testing.assert_allclose(ours(config), theirs(config, tmp_path), rtol=TOLERANCE)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nested per layer type": (
        {"rope_parameters": {"full_attention": LLAMA3, "sliding_attention": LINEAR}},
        r"rope_parameters\.full_attention holds parameters for some of the layers",
    ),
    "nested per layer type, one type": (
        {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 5e5}}},
        r"rope_parameters\.full_attention",
    ),
    "nested under a name of its own": ({"rope_scaling": {"scaling": LINEAR}}, r"rope_scaling\.scaling"),
    "a dictionary beside the parameters": ({"rope_scaling": LINEAR | {"extra": {}}}, r"rope_scaling\.extra"),
    "a factor without a type": ({"rope_scaling": {"factor": 4.0}}, r"rope_scaling\.factor = 4\.0 is not understood"),
    "a factor for the type default": ({"rope_parameters": {"rope_type": "default", "factor": 2.0}}, r"\.factor = 2\.0"),
    "an attention factor": ({"rope_scaling": LLAMA3 | {"attention_factor": 1.2}}, r"rope_scaling\.attention_factor"),
    "a key of yarn": ({"rope_scaling": LINEAR | {"beta_fast": 32}}, r"rope_scaling\.beta_fast"),
    "a key nobody knows": ({"rope_scaling": LLAMA3 | {"finetuned": True}}, r"rope_scaling\.finetuned"),
    "sections of positions": ({"rope_parameters": {"mrope_section": [4, 4, 4]}}, r"rope_parameters\.mrope_section"),
    "yarn": ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "RoPE type 'yarn' is not supported"),
    "longrope": ({"rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [2]}}, "'longrope'"),
    "proportional": ({"rope_parameters": {"rope_type": "proportional", "rope_theta": 1e4}}, "'proportional'"),
    "a type of null": ({"rope_parameters": {"rope_type": None, "type": "linear", "factor": 2.0}}, "RoPE type None"),
    "half of the head": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    "half of the head, inside": ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    "null theta": ({"rope_theta": None}, "rope_theta must be a finite number, got None"),
    "null theta inside": ({"rope_scaling": LINEAR | {"rope_theta": None}}, "rope_theta must be a finite number"),
    "theta as text": ({"rope_theta": "10000"}, "rope_theta must be a finite number, got '10000'"),
    "linear without factor": ({"rope_scaling": {"type": "linear"}}, "lacks factor"),
    "a factor of null": ({"rope_scaling": {"type": "linear", "factor": None}}, "factor must be a finite number"),
    "llama3 without its factors": ({"rope_scaling": {"type": "llama3", "factor": 8.0}}, "lacks low_freq_factor"),
    "an original length of text": (
        {"rope_scaling": LLAMA3, "original_max_position_embeddings": "512"},
        "original_max_position_embeddings must be a positive integer",
    ),
    "no dictionary": ({"rope_scaling": "linear"}, "rope_scaling must be an object, got 'linear'"),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_understood_is_refused_by_name(changes: dict[str, Any], message: str, family: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_config(BASE | {"model_type": family} | changes)
    assert "\n" not in str(caught.value)


def rounding(config: dict[str, Any]) -> float:
    """Of llama3 in float32: where a frequency is divided by nearly `factor`, an error of its share counts for more."""
    scaling = config.get("rope_scaling") or config["rope_parameters"]
    if "high_freq_factor" not in scaling:
        return TOLERANCE
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    return TOLERANCE * max(1.0, scaling["factor"] * high / (high - low) / 4)


def random_config(rng: np.random.Generator) -> dict[str, Any]:
    """One of the spellings, with numbers of its own."""
    kind = str(rng.choice(["default", "linear", "dynamic", "llama3"]))
    scaling: dict[str, Any] = {str(rng.choice(["type", "rope_type"])): kind}
    if kind != "default":
        scaling["factor"] = float(rng.uniform(1, 40))
    if kind == "llama3":
        low = float(rng.uniform(0.5, 3))
        scaling |= {"low_freq_factor": low, "high_freq_factor": low + float(rng.uniform(0.5, 5))}
    places = [scaling, {}]
    for key, value in (
        ("rope_theta", float(10 ** rng.uniform(3, 6.5))),
        ("original_max_position_embeddings", int(rng.integers(16, 3000))),
    ):
        if rng.random() < 0.7:
            places[rng.integers(2)][key] = value
    return {str(rng.choice(["rope_scaling", "rope_parameters"])): scaling, **places[1]}


@pytest.mark.parametrize("number", range(40))
def test_random_spellings(number: int, tmp_path: Path) -> None:
    rng = np.random.default_rng((SEED, number))
    sizes = {"head_dim": int(2 * rng.integers(2, 128)), "max_position_embeddings": int(rng.integers(3000, 20000))}
    config = BASE | {"model_type": str(rng.choice(FAMILIES)), "sliding_window": None} | sizes | random_config(rng)
    print("seed", (SEED, number), config)
    np.testing.assert_allclose(ours(config), theirs(config, tmp_path), rtol=rounding(config))


def test_init_functions_of_transformers_agree_with_the_rotary_embedding(tmp_path: Path) -> None:
    """The reference itself: the table of transformers says what its model uses, original length beside or inside."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = BASE | {"model_type": "llama", "rope_scaling": LLAMA3} | ORIGINAL
    loaded = transformers.LlamaConfig(**{key: value for key, value in config.items() if key != "model_type"})
    table, scaling = ROPE_INIT_FUNCTIONS["llama3"](loaded, torch.device("cpu"))
    assert scaling == 1.0
    np.testing.assert_array_equal(table.numpy(), theirs(config, tmp_path))
