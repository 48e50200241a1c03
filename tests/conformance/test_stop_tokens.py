"""A3, A4, A8 of folders: what ends an answer, what is said where nothing does, and how tokens are drawn."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tokenizer_folders import CHATML, SPECIAL, Bundled, json_with, write_folder

from shadowattn.models.bundle import Sampling

PAD = 402
IM_END = 401
GENERATION = "generation_config.json"
NO_STOP = "the model names no token that ends an answer, so answers end at max_new_tokens"
TURN_ADDED = (
    r"the chat template ends a turn with <\|im_end\|>, which the model names nowhere as a last token; it is taken"
)
RUNS_ON = r"the chat template ends a turn with {}, which begins with no token that ends an answer"


def template(end: str) -> str:
    return CHATML.replace("<|im_end|>", end)


def settings(**changes: Any) -> dict[str, Any]:
    return {"tokenizer_class": "PreTrainedTokenizerFast"} | changes


# name -> tokenizer_config.json, generation_config.json, changes of config.json, the stop tokens, the warnings
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], tuple[int, ...], list[str]]] = {
    "eos_token of the tokenizer alone": (settings(eos_token="<|im_end|>"), {}, {}, (IM_END,), []),
    "config.json and the tokenizer": (settings(eos_token="<|im_end|>"), {}, {"eos_token_id": 5}, (5, IM_END), []),
    "a list in generation_config.json": (settings(), {"eos_token_id": [5, 6]}, {"eos_token_id": 5}, (5, 6), []),
    "no stop token": (settings(), {}, {}, (), [NO_STOP]),
    "ids outside the vocabulary": (
        settings(),
        {"eos_token_id": [5, 420]},
        {"eos_token_id": -1, "bos_token_id": 10**9},
        (5,),
        ["names token -1 ", "names token 420 ", "names token 1000000000 "],
    ),
    "a turn that ends in a stop token": (
        settings(eos_token="<|im_end|>", chat_template=CHATML),
        {},
        {},
        (IM_END,),
        [],
    ),
    "a turn that ends in another control token": (
        settings(eos_token="<|pad|>", chat_template=CHATML),
        {},
        {},
        (PAD, IM_END),
        [TURN_ADDED],
    ),
    "a turn that ends in a control token, no stop token": (
        settings(chat_template=CHATML),
        {},
        {},
        (IM_END,),
        [TURN_ADDED],
    ),
    "ids that are no whole numbers": (
        settings(eos_token="<|im_end|>"),
        {"eos_token_id": "2", "bos_token_id": True},
        {"eos_token_id": [401, 2.5]},
        (IM_END,),
        [
            r"config\.json: eos_token_id has 2\.5, which is no token id; it is left out",
            r"generation_config\.json: bos_token_id has True, which is no token id",
            r"generation_config\.json: eos_token_id has '2', which is no token id",
        ],
    ),
    "a turn that ends in a token of no fame": (
        settings(eos_token="<|im_end|>", chat_template=template("<|pad|>")),
        {},
        {},
        (IM_END,),
        [RUNS_ON.format(r"'<\|pad\|>'")],
    ),
    "a turn that ends in what is not one token": (
        settings(eos_token="<|im_end|>", chat_template=template("<|eot_id|>")),
        {},
        {},
        (IM_END,),
        [RUNS_ON.format(r"'<\|eot_id\|>'")],
    ),
    "a turn that ends in eos_token": (
        settings(eos_token="<|im_end|>", chat_template=template(" {{ eos_token }}")),
        {},
        {},
        (IM_END,),
        [],
    ),
    "a turn that ends in a new line": (
        settings(eos_token="<|im_end|>", chat_template=template("")),
        {},
        {},
        (IM_END,),
        [],
    ),
    "a template that leaves answers out": (
        settings(eos_token="<|im_end|>", chat_template="{{ messages[0].content }}"),
        {},
        {},
        (IM_END,),
        [],
    ),
    "a template that fails": (
        settings(eos_token="<|im_end|>", chat_template="{{ raise_exception('system first') }}"),
        {},
        {},
        (IM_END,),
        [r"the chat template fails on a question and an answer \(TemplateError: system first\); chats will not do"],
    ),
    "a template with a mistake": (
        settings(eos_token="<|im_end|>", chat_template="{% for %}"),
        {},
        {},
        (IM_END,),
        [r"the chat template fails on a question and an answer \(TemplateSyntaxError"],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_stop_tokens_of_a_folder(name: str, tmp_path: Path) -> None:
    tokenizer, generation, config, stops, warnings = ROWS[name]
    files = {"tokenizer.json": json_with(*SPECIAL), "tokenizer_config.json": tokenizer, GENERATION: generation}
    bundled = Bundled(write_folder(tmp_path / "model", files, **config))
    assert bundled.tokens.stops == stops
    assert len(bundled.warnings) == len(warnings), bundled.warnings
    for sentence, wanted in zip(bundled.warnings, warnings, strict=True):
        assert re.search(wanted, sentence)
        assert sentence.startswith(str(tmp_path / "model"))


# name -> generation_config.json, what is kept, the settings that are left out
SAMPLING: dict[str, tuple[dict[str, Any], Sampling, list[str]]] = {
    "nothing said": ({}, Sampling(), []),
    "drawn": (
        {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.05},
        Sampling(0.6, 20, 0.95, 1.05),
        [],
    ),
    "drawn, as transformers does where nothing else is said": ({"do_sample": True}, Sampling(1.0, 50), []),
    "drawn from all": ({"do_sample": True, "top_k": 0}, Sampling(1.0, 0), []),
    "not drawn": ({"do_sample": False, "temperature": 0.6, "top_p": 0.9}, Sampling(), []),
    "nothing said of drawing": (
        {"temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1},
        Sampling(0, 0, 1, 1.1),
        [],
    ),
    "settings that change nothing": (
        {"do_sample": True, "top_k": 50, "min_p": 0.0, "typical_p": 1.0, "num_beams": 1, "no_repeat_ngram_size": 0},
        Sampling(1.0, 50),
        [],
    ),
    "settings that are not supported": (
        {"do_sample": True, "min_p": 0.05, "no_repeat_ngram_size": 3, "suppress_tokens": [1]},
        Sampling(1.0, 50),
        ["min_p = 0.05", "no_repeat_ngram_size = 3", r"suppress_tokens = \[1\]"],
    ),
    "values out of range": (
        {"do_sample": True, "temperature": "hot", "top_p": 0, "top_k": 2.5, "repetition_penalty": -1},
        Sampling(),
        ["temperature = 'hot'", "top_k = 2.5", "top_p = 0", "repetition_penalty = -1"],
    ),
}


@pytest.mark.parametrize("name", SAMPLING)
def test_how_tokens_are_drawn(name: str, tmp_path: Path) -> None:
    generation, kept, left_out = SAMPLING[name]
    checkpoint = Bundled(write_folder(tmp_path / "model", {GENERATION: json.dumps(generation)})).checkpoint
    assert checkpoint.sampling == kept
    assert len(checkpoint.warnings) == len(left_out)
    for setting in left_out:
        wanted = rf"generation_config\.json asks for {setting}, which shadowattn does not do; it is left out"
        assert any(re.search(wanted, sentence) for sentence in checkpoint.warnings), checkpoint.warnings
