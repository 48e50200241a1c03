"""A3: the tokenizer of a folder is what transformers loads from all of its files, whatever file names a token.

Reference: transformers' AutoTokenizer on the same folder, for texts, special tokens and conversations.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizer_folders import CHATML, MESSAGES, Bundled, byte_level, write_folder
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer

from shadowattn.converter.text_grid import TEXTS

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|pad|>")
CONFIG = "tokenizer_config.json"


def added(content: str, special: bool = True, **flags: bool) -> dict[str, Any]:
    """A token as tokenizer_config.json describes it."""
    return {"content": content, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False} | {
        "special": special,
        **flags,
    }


def decoder(*tokens: dict[str, Any], first: int = 400) -> dict[str, Any]:
    return {str(first + i): token for i, token in enumerate(tokens)}


CHAT = {"eos_token": "<|im_end|>", "chat_template": CHATML, "tokenizer_class": "PreTrainedTokenizerFast"}
THREE = decoder(*map(added, SPECIAL))


def json_with(*tokens: str, **changes: Any) -> str:
    """tokenizer.json that names special tokens itself."""
    tokenizer = Tokenizer.from_str(byte_level())
    tokenizer.add_special_tokens(list(tokens))
    return json.dumps(json.loads(tokenizer.to_str()) | changes)


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


def reference(folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def texts(tokenizer: Any) -> list[str]:
    """Ordinary ones, and every added token where it could be cut or swallow its neighbours."""
    special = [token.content for token in tokenizer.added_tokens_decoder.values()]
    return [*TEXTS, *(f"x {token} y{token}z\n{token}" for token in special), "".join(special)]


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
