"""A3: the tokenizer of a folder is what transformers loads from all of its files, whatever file names a token.

Reference: transformers' AutoTokenizer on the same folder, for texts, special tokens and conversations.
"""

from pathlib import Path
from typing import Any

import pytest
from tokenizer_folders import (
    CHAT,
    CHATML,
    CONFIG,
    MESSAGES,
    SPECIAL,
    THREE,
    Bundled,
    added,
    byte_level,
    decoder,
    json_with,
    reference,
    sentencepiece_json,
    texts,
    write_folder,
)
from tokenizers import Tokenizer, processors


def begins_with_bos() -> str:
    tokenizer = Tokenizer.from_str(json_with("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 400)])
    return str(tokenizer.to_str())


def shortened() -> str:
    tokenizer = Tokenizer.from_str(json_with(*SPECIAL))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=9, pad_id=402, pad_token="<|pad|>")
    return str(tokenizer.to_str())


# name -> the folder's tokenizer files and its model_type
FOLDERS: dict[str, tuple[dict[str, Any], str]] = {
    "added_tokens_decoder only": ({CONFIG: CHAT | {"added_tokens_decoder": THREE}}, "llama"),
    "additional_special_tokens only": ({CONFIG: CHAT | {"additional_special_tokens": list(SPECIAL)}}, "llama"),
    "additional_special_tokens as objects": (
        {CONFIG: CHAT | {"additional_special_tokens": [{"__type": "AddedToken", **added(text)} for text in SPECIAL]}},
        "llama",
    ),
    "extra_special_tokens as a list": ({CONFIG: CHAT | {"extra_special_tokens": list(SPECIAL)}}, "llama"),
    "extra_special_tokens by name": ({CONFIG: CHAT | {"extra_special_tokens": {"image_token": "<|image|>"}}}, "llama"),
    "a token setting of the model's own": ({CONFIG: CHAT | {"boi_token": "<|im_start|>"}}, "llama"),
    "named tokens only": (
        {CONFIG: CHAT | {"bos_token": "<|im_start|>", "pad_token": "<|pad|>", "unk_token": "<unk>"}},
        "llama",
    ),
    "named tokens as marked objects": (
        {CONFIG: CHAT | {"eos_token": {"__type": "AddedToken", **added("<|im_end|>")}, "bos_token": "<|im_start|>"}},
        "llama",
    ),
    "special_tokens_map.json only": (
        {
            CONFIG: {"chat_template": CHATML, "tokenizer_class": "PreTrainedTokenizerFast"},
            "special_tokens_map.json": {
                "eos_token": added("<|im_end|>"),
                "bos_token": "<|im_start|>",
                "additional_special_tokens": ["<|pad|>"],
            },
        },
        "llama",
    ),
    "added_tokens.json only": (
        {CONFIG: CHAT, "added_tokens.json": {"<|im_end|>": 400, "<|im_start|>": 401, "<think>": 402}},
        "llama",
    ),
    "added_tokens.json beside special_tokens_map.json": (
        {
            CONFIG: {"chat_template": CHATML},
            "added_tokens.json": {"<|im_end|>": 400, "<|im_start|>": 401},
            "special_tokens_map.json": {"eos_token": "<|im_end|>"},
        },
        "llama",
    ),
    "tokens that are shown, that strip, single words": (
        {
            CONFIG: CHAT
            | {
                "added_tokens_decoder": decoder(
                    *map(added, SPECIAL),
                    added("<think>", special=False),
                    added("<left>", lstrip=True),
                    added("<right>", rstrip=True),
                    added("wordy", special=False, single_word=True, normalized=True),
                )
            }
        },
        "llama",
    ),
    "tokenizer.json alone": ({"tokenizer.json": json_with(*SPECIAL), CONFIG: CHAT}, "llama"),
    "tokenizer.json that adds BOS": (
        {"tokenizer.json": begins_with_bos(), CONFIG: CHAT | {"bos_token": "<s>"}},
        "llama",
    ),
    "tokenizer.json that shortens and pads": ({"tokenizer.json": shortened(), CONFIG: CHAT}, "llama"),
    "no tokenizer_config.json": ({"tokenizer.json": json_with(*SPECIAL)}, "llama"),
    "add_bos_token beside tokenizer.json": (
        {"tokenizer.json": json_with("<s>", "<|im_end|>"), CONFIG: CHAT | {"bos_token": "<s>", "add_bos_token": True}},
        "llama",
    ),
    "a Llama class on a byte-level tokenizer": (
        {CONFIG: CHAT | {"tokenizer_class": "LlamaTokenizerFast", "added_tokens_decoder": THREE}},
        "llama",
    ),
    "SentencePiece as tokenizer.json": ({"tokenizer.json": sentencepiece_json(), CONFIG: CHAT}, "llama"),
    "a Llama class on SentencePiece": (
        {"tokenizer.json": sentencepiece_json(), CONFIG: CHAT | {"tokenizer_class": "LlamaTokenizer"}},
        "llama",
    ),
    "a Llama class on SentencePiece, legacy": (
        {"tokenizer.json": sentencepiece_json(), CONFIG: CHAT | {"tokenizer_class": "LlamaTokenizer", "legacy": True}},
        "llama",
    ),
    "a class that transformers lacks": (
        {CONFIG: CHAT | {"tokenizer_class": "UnheardOfTokenizer", "added_tokens_decoder": THREE}},
        "llama",
    ),
    "clean_up_tokenization_spaces": (
        {CONFIG: CHAT | {"clean_up_tokenization_spaces": True, "added_tokens_decoder": THREE}},
        "llama",
    ),
    "Qwen2, tokens in the settings": (
        {CONFIG: CHAT | {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": THREE}},
        "qwen2",
    ),
    "Mistral, tokens in the settings": ({CONFIG: CHAT | {"added_tokens_decoder": THREE}}, "mistral"),
}


@pytest.fixture(params=FOLDERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    files, model_type = FOLDERS[request.param]
    return write_folder(tmp_path / "model", {"tokenizer.json": byte_level()} | files, model_type=model_type)


def test_texts_and_special_tokens(folder: Path) -> None:
    theirs, ours = reference(folder), Bundled(folder)
    for text in texts(theirs):
        assert ours.encode(text) == theirs(text)["input_ids"], text
        without = ours.tokenizer.encode(text, add_special_tokens=False)
        assert without == theirs(text, add_special_tokens=False)["input_ids"], text
        assert ours.tokenizer.decode(without) == theirs.decode(without, skip_special_tokens=True)
    assert ours.files.special_tokens == theirs.special_tokens_map
    assert {theirs.eos_token_id} - {None} <= set(ours.tokens.stops)


def test_conversations(folder: Path) -> None:
    theirs, ours = reference(folder), Bundled(folder)
    if theirs.chat_template is None:
        assert ours.files.chat_template is None
        return
    wanted = theirs.apply_chat_template(MESSAGES, add_generation_prompt=True)["input_ids"]
    assert ours.chat(MESSAGES) == wanted
