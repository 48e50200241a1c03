"""A3, A8: vocabularies in other files than tokenizer.json, the forms of a chat template, and what is refused or said.

References: SentencePiece for tokenizer.model, transformers for the rest.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
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
    sentencepiece_model,
    texts,
    write_folder,
)
from tokenizers import Tokenizer

from shadowattn.converter.text_grid import TEXTS

VOCABULARY_AND_MERGES = json.loads(byte_level())["model"]
OTHER = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}{% endfor %}"


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("settings", [None, {"add_bos_token": True}, {"tokenizer_class": "LlamaTokenizer"}])
def test_tokenizer_model(kind: str, prefix: bool, settings: dict[str, Any] | None, tmp_path: Path) -> None:
    model = sentencepiece_model(kind, add_dummy_prefix=prefix)
    files = {"tokenizer.model": model} | ({} if settings is None else {CONFIG: settings})
    bundled = Bundled(write_folder(tmp_path / "model", files, vocab=600))
    original = sentencepiece.SentencePieceProcessor(model_proto=model)
    keeps_spaces = settings is None or "tokenizer_class" not in settings  # transformers' class joins the first spaces
    bos = [1] if settings == {"add_bos_token": True} else []
    for text in TEXTS:
        text = text if keeps_spaces else " ".join(text.split())
        assert bundled.encode(text) == bos + original.encode(text), text
    assert bundled.tokens.stops == (2,)


@pytest.mark.parametrize("rule", ["nmt_nfkc", "nmt_nfkc_cf"])
def test_tokenizer_model_that_normalizes(rule: str, tmp_path: Path) -> None:
    model = sentencepiece_model("bpe", normalization_rule_name=rule, remove_extra_whitespaces=True)
    bundled = Bundled(write_folder(tmp_path / "model", {"tokenizer.model": model}, vocab=600))
    original = sentencepiece.SentencePieceProcessor(model_proto=model)
    for text in ("\uff21\u2167 \u00bd \ufb01x", "na\u00efve CAF\u00c9", *(" ".join(text.split()) for text in TEXTS)):
        assert bundled.encode(text) == original.encode(text), text


@pytest.mark.parametrize(
    ("name", "model_type"), [("GPT2Tokenizer", "llama"), ("Qwen2Tokenizer", "qwen2"), (None, "qwen2")]
)
def test_vocab_json_and_merges_txt(name: str | None, model_type: str, tmp_path: Path) -> None:
    files = {
        "vocab.json": VOCABULARY_AND_MERGES["vocab"],
        "merges.txt": "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in VOCABULARY_AND_MERGES["merges"]),
        CONFIG: CHAT | {"tokenizer_class": name, "added_tokens_decoder": THREE},
    }
    folder = write_folder(tmp_path / "model", files, model_type=model_type)
    theirs, ours = reference(folder), Bundled(folder)
    for text in texts(theirs):
        assert ours.encode(text) == theirs(text)["input_ids"], text
    assert ours.chat(MESSAGES) == theirs.apply_chat_template(MESSAGES, add_generation_prompt=True)["input_ids"]


# name -> files beside a tokenizer.json with CHATML's tokens, the template that counts, and a warning
NAMED = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": OTHER}]
SETTINGS = {"eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
NO_DEFAULT = r"of its chat templates \(rag, tool_use\) none is the default; the bundle gets none"
TEMPLATES: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    "chat_template.jinja": ({CONFIG: SETTINGS, "chat_template.jinja": CHATML}, CHATML, None),
    "chat_template.jinja before the settings": (
        {CONFIG: SETTINGS | {"chat_template": OTHER}, "chat_template.jinja": CHATML},
        CHATML,
        None,
    ),
    "text in the settings": ({CONFIG: SETTINGS | {"chat_template": CHATML}}, CHATML, None),
    "a list in the settings": ({CONFIG: SETTINGS | {"chat_template": NAMED}}, CHATML, None),
    "an object in the settings": (
        {CONFIG: SETTINGS | {"chat_template": {"default": CHATML, "tool_use": OTHER}}},
        CHATML,
        None,
    ),
    "a list without a default": (
        {CONFIG: SETTINGS | {"chat_template": [NAMED[1], {"name": "rag", "template": OTHER}]}},
        None,
        NO_DEFAULT,
    ),
    "chat_template.json": ({CONFIG: SETTINGS, "chat_template.json": {"chat_template": CHATML}}, CHATML, None),
    "chat_template.json with several": (
        {CONFIG: SETTINGS, "chat_template.json": {"chat_template": {"default": CHATML, "tool_use": OTHER}}},
        CHATML,
        None,
    ),
    "chat_template.json without one": (
        {CONFIG: SETTINGS, "chat_template.json": {"default": CHATML}},
        None,
        r"chat_template\.json holds no chat_template; the bundle gets none",
    ),
    "processor_config.json": ({CONFIG: SETTINGS, "processor_config.json": {"chat_template": CHATML}}, CHATML, None),
    "additional_chat_templates": (
        {
            CONFIG: SETTINGS,
            "chat_template.jinja": CHATML,
            "additional_chat_templates/tool_use.jinja": OTHER,
        },
        CHATML,
        None,
    ),
    "additional_chat_templates alone": (
        {
            CONFIG: SETTINGS,
            "additional_chat_templates/tool_use.jinja": OTHER,
            "additional_chat_templates/rag.jinja": OTHER,
        },
        None,
        NO_DEFAULT,
    ),
    "none": ({CONFIG: SETTINGS}, None, None),
    "no text": ({CONFIG: SETTINGS | {"chat_template": 5}}, None, "the chat template is int, not text"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_chat_templates(name: str, tmp_path: Path) -> None:
    files, wanted, warning = TEMPLATES[name]
    folder = write_folder(tmp_path / "model", {"tokenizer.json": json_with(*SPECIAL)} | files)
    bundled = Bundled(folder)
    assert bundled.files.chat_template == wanted
    assert len(bundled.warnings) == (warning is not None)
    assert warning is None or re.search(warning, bundled.warnings[0])
    theirs = reference(folder)
    if wanted is not None and theirs.chat_template is not None:
        assert bundled.chat(MESSAGES) == theirs.apply_chat_template(MESSAGES, add_generation_prompt=True)["input_ids"]


# name -> the folder whose tokenizer.json counts, whatever class of transformers the settings name, and its model_type
WORDS = json.dumps(
    json.loads(byte_level())
    | {
        "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "Hello": 1, "world": 2, "x": 3}, "unk_token": "<unk>"},
        "pre_tokenizer": {"type": "Whitespace"},
        "decoder": None,
    }
)
JSON_COUNTS: dict[str, tuple[dict[str, Any], str]] = {
    "words, a class of BPE": ({"tokenizer.json": WORDS, CONFIG: {"tokenizer_class": "LlamaTokenizer"}}, "llama"),
    "words, a model type whose class is of BPE": ({"tokenizer.json": WORDS}, "qwen2"),
    "SentencePiece, a byte-level class": ({"tokenizer.json": sentencepiece_json()}, "qwen2"),
    "more tokens than the settings name": (
        {"tokenizer.json": json_with(*SPECIAL, "<|more|>"), CONFIG: {"added_tokens_decoder": THREE}},
        "qwen2",
    ),
    "tokens as objects that are not marked": (
        {
            "tokenizer.json": json_with(*SPECIAL),
            CONFIG: CHAT | {"eos_token": added("<|im_end|>"), "additional_special_tokens": [added("<|pad|>")]},
        },
        "llama",
    ),
}


@pytest.mark.parametrize("name", JSON_COUNTS)
def test_tokenizer_json_counts(name: str, tmp_path: Path) -> None:
    files, model_type = JSON_COUNTS[name]
    bundled = Bundled(write_folder(tmp_path / "model", files, model_type=model_type))
    own = Tokenizer.from_str(files["tokenizer.json"])
    for text in (*TEXTS, *(f"a{token} <|more|>b" for token in SPECIAL)):
        assert bundled.encode(text) == own.encode(text).ids, text


# name -> files beside (or instead of) a byte-level tokenizer.json, and the refusal
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "tokenizer.json of nothing": (
        {"tokenizer.json": "{}"},
        r"tokenizer\.json cannot be read by the tokenizers library",
    ),
    "tokenizer_config.json cut off": ({CONFIG: '{"eos_token": '}, r"tokenizer_config\.json: not valid JSON"),
    "special_tokens_map.json cut off": ({"special_tokens_map.json": "{"}, r"special_tokens_map\.json: not valid JSON"),
    "added_tokens.json that is a list": ({"added_tokens.json": []}, r"added_tokens\.json: expected a JSON object"),
    "a special token that is a number": ({CONFIG: {"eos_token": 5}}, r"cannot be loaded by transformers \(TypeError"),
    "an added token that is a number": (
        {CONFIG: {"added_tokens_decoder": {"400": 5}}},
        r"cannot be loaded by transformers \(TypeError",
    ),
    "a pointer of Git LFS": (
        {"tokenizer.json": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"},
        r"tokenizer\.json: a Git LFS pointer, not the file itself; run `git lfs pull`",
    ),
    "special tokens that transformers splits": (
        {CONFIG: CHAT | {"added_tokens_decoder": THREE, "split_special_tokens": True}},
        r"transformers cuts .* into the tokens .*remove what makes .* differ \(split_special_tokens, say\)",
    ),
    "tokenizer.model of nothing": (
        {"tokenizer.json": None, "tokenizer.model": b"\x00\x01"},
        r"the tokenizer cannot be loaded by transformers",
    ),
    "vocab.json that the class does not read": (
        {
            "tokenizer.json": None,
            "vocab.json": VOCABULARY_AND_MERGES["vocab"],
            CONFIG: {"tokenizer_class": "LlamaTokenizer"},
        },
        r"LlamaTokenizer of transformers does not read the vocabulary in this folder",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str, tmp_path: Path) -> None:
    files, message = REFUSED[name]
    files = {"tokenizer.json": byte_level()} | files
    bundled = Bundled(write_folder(tmp_path / "model", {key: file for key, file in files.items() if file is not None}))
    with pytest.raises(ValueError, match=message) as caught:
        bundled.encode("x")
    assert "\n" not in str(caught.value)


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", {"tokenizer.json": byte_level()})
    (folder / CONFIG).symlink_to(tmp_path / "gone.json")
    with pytest.raises(
        ValueError,
        match=r"tokenizer_config\.json: a link to .*gone\.json, which is not there",
    ):
        Bundled(folder).encode("x")


def test_links_are_followed(tmp_path: Path) -> None:
    """As in the cache of the Hub: every file is a link into another folder, under another name."""
    folder = write_folder(tmp_path / "model", {"tokenizer.json": json_with(*SPECIAL), CONFIG: CHAT})
    wanted = Bundled(folder).chat(MESSAGES)
    for index, file in enumerate(sorted(folder.iterdir())):
        file.rename(tmp_path / f"blob{index}")
        file.symlink_to(Path("..") / f"blob{index}")
    assert Bundled(folder).chat(MESSAGES) == wanted


# name -> files beside a byte-level tokenizer.json, rows of the embedding, and the one warning
SAID: dict[str, tuple[dict[str, Any], int, str]] = {
    "an id that is not the one stated": (
        {CONFIG: CHAT | {"added_tokens_decoder": decoder(*map(added, SPECIAL), first=410)}},
        420,
        r"state that '<\|im_start\|>' is token 410, and transformers makes it token 400",
    ),
    "a token without text": (
        {CONFIG: CHAT | {"added_tokens_decoder": THREE | {"403": {"special": True}, "404": added("<|x|>")}}},
        420,
        r"state that '<\|x\|>' is token 404, and transformers makes it token",
    ),
    "a class that cuts otherwise than tokenizer.json": (
        {CONFIG: CHAT | {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": THREE}},
        420,
        r"Qwen2Tokenizer of transformers cuts .* into other tokens than tokenizer\.json does; the bundle follows",
    ),
    "a tokenizer larger than the embedding": (
        {CONFIG: CHAT | {"added_tokens_decoder": THREE}},
        402,
        r"the tokenizer has 1 tokens that the model's embedding of 402 rows lacks, from '<\|pad\|>' \(token 402\) on",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_warnings(name: str, tmp_path: Path) -> None:
    files, vocab, warning = SAID[name]
    bundled = Bundled(write_folder(tmp_path / "model", {"tokenizer.json": byte_level()} | files, vocab=vocab))
    assert any(re.search(warning, text) for text in bundled.warnings), bundled.warnings
