"""A1, A4, A5 of GGUF files: only the file counts, damage is refused, the rest is said, conversations have one BOS."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tokenizer_folders import CHAT, CHATML, MESSAGES, Bundled, json_with, write_folder
from tokenizer_ggufs import (
    ADD_BOS,
    ADD_EOS,
    BOS,
    BYTE_LEVEL,
    EOS,
    EOT,
    HIDDEN,
    PAD,
    PRE,
    ROWS,
    SENTENCEPIECE,
    TEXTS,
    Row,
    add,
    golden,
    write_gguf,
)

from shadowattn.converter import sentencepiece_merges
from shadowattn.converter.gguf_vocabulary import read_vocabulary
from shadowattn.models.bundle import Sampling

TEMPLATE = "tokenizer.chat_template"
BESIDE = {
    "tokenizer.json": json_with("<|other|>"),
    "tokenizer_config.json": '{"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|other|>", "add_bos_token": true}',
    "special_tokens_map.json": '{"bos_token": "<|other|>"}',
    "added_tokens.json": '{"<|im_start|>": 7}',
    "generation_config.json": '{"eos_token_id": 3, "do_sample": true}',
    "config.json": '{"model_type": "qwen2", "eos_token_id": 3}',
    "chat_template.jinja": "{{ messages[0].content }}",
}


@pytest.mark.parametrize("row", [Row(BYTE_LEVEL, {TEMPLATE: CHATML}), Row(SENTENCEPIECE, {TEMPLATE: CHATML})])
def test_files_beside_a_gguf_do_not_count(row: Row, tmp_path: Path) -> None:
    alone = Bundled(write_gguf(tmp_path / "model.gguf", row))
    (tmp_path / "beside").mkdir()
    for name, text in BESIDE.items():
        (tmp_path / "beside" / name).write_text(text)
    beside = Bundled(write_gguf(tmp_path / "beside" / "model.gguf", row))
    assert beside.files == alone.files
    assert (beside.tokens.bos, beside.tokens.stops) == (alone.tokens.bos, alone.tokens.stops)
    assert beside.checkpoint.sampling == alone.checkpoint.sampling == Sampling()


# --- what is said ---

BAD = 2**32 - 1
# name -> the row, and the warnings
SAID: dict[str, tuple[Row, list[str]]] = {
    "nothing": (Row(BYTE_LEVEL), []),
    "eos outside the vocabulary": (
        Row(BYTE_LEVEL, {EOS: BAD}),
        [rf"tokenizer\.ggml\.eos_token_id names token {BAD}, but the vocabulary has 906; it is left out"],
    ),
    "bos outside the vocabulary": (
        Row(BYTE_LEVEL, {BOS: 10**6}),
        [r"tokenizer\.ggml\.bos_token_id names token 1000000, but the vocabulary has 906; it is left out"],
    ),
    "several outside the vocabulary": (
        Row(BYTE_LEVEL, {EOT: 906, PAD: BAD}),
        [r"eot_token_id names token 906", r"padding_token_id names token 4294967295"],
    ),
    "SentencePiece, outside the vocabulary": (
        Row(SENTENCEPIECE, {EOS: BAD}),
        [rf"eos_token_id names token {BAD}, but the vocabulary has 965; token 2 \(</s>\) is taken"],
    ),
    "no stop token": (
        Row(BYTE_LEVEL, {EOS: None}, without=("<|im_end|>",)),
        ["the model names no token that ends an answer, so answers end at max_new_tokens"],
    ),
    "a BOS that is not there": (
        Row(BYTE_LEVEL, {BOS: None, ADD_BOS: True}),
        [r"tokenizer\.ggml\.add_bos_token is true, but the file names no such token; texts go without it"],
    ),
    "a BOS that is not there, where the split implies it": (
        Row(BYTE_LEVEL, {PRE: "llama-bpe", BOS: None}),
        [r"tokenizer\.ggml\.add_bos_token is true by default, but the file names no such token; texts go without it"],
    ),
    "an EOS that is not there": (
        Row(BYTE_LEVEL, {EOS: None, ADD_EOS: True}),
        [r"tokenizer\.ggml\.add_eos_token is true, but the file names no such token; texts go without it"],
    ),
    "an unknown split": (
        Row(BYTE_LEVEL, {PRE: "unheard-of"}),
        [r"tokenizer\.ggml\.pre is 'unheard-of', and known are"],
    ),
    "no split": (Row(BYTE_LEVEL, {PRE: None}), [r"tokenizer\.ggml\.pre is None, and known are gpt-2"]),
    "other templates only": (
        Row(BYTE_LEVEL, {f"{TEMPLATE}.tool_use": CHATML}),
        [r"tokenizer\.chat_template is missing or no text, and other templates \(tokenizer\.chat_template\.tool_use\)"],
    ),
    "a turn that ends in a word": (
        Row(BYTE_LEVEL, {TEMPLATE: CHATML.replace("<|im_end|>", "### End")}),
        [r"the chat template ends a turn with '### End', which begins with no token that ends an answer"],
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_warnings(name: str, tmp_path: Path) -> None:
    row, warnings = SAID[name]
    bundled = Bundled(write_gguf(tmp_path / "model.gguf", row))
    assert len(bundled.warnings) == len(warnings), bundled.warnings
    for sentence, wanted in zip(bundled.warnings, warnings, strict=True):
        assert re.search(wanted, sentence)
        assert sentence.startswith(str(tmp_path / "model.gguf"))


def test_a_vocabulary_larger_than_the_embedding(tmp_path: Path) -> None:
    embedding = {"token_embd.weight": np.zeros((904, HIDDEN), np.float32)}
    (warning,) = Bundled(write_gguf(tmp_path / "model.gguf", Row(BYTE_LEVEL), weights=embedding)).warnings
    assert "2 tokens that the model's embedding of 904 rows lacks, from '<think>' (token 904) on" in warning


# --- conversations ---


def with_bos(template: str) -> str:
    return "{{ bos_token }}" + template


@pytest.mark.parametrize("written", [False, True], ids=["template without BOS", "template with BOS"])
@pytest.mark.parametrize(
    ("row", "begins"),
    [
        (Row(BYTE_LEVEL, {PRE: "llama-bpe"}), True),
        (Row(BYTE_LEVEL, {PRE: "qwen2"}), False),
        (Row(BYTE_LEVEL, {PRE: "qwen2", ADD_BOS: True}), True),
        (Row(BYTE_LEVEL, {PRE: "llama-bpe", ADD_BOS: False}), False),
        (Row(SENTENCEPIECE), True),
        (Row(SENTENCEPIECE, {ADD_BOS: False}), False),
        (Row(SENTENCEPIECE, types=False), True),
    ],
)
def test_a_conversation_has_one_bos(row: Row, begins: bool, written: bool, tmp_path: Path) -> None:
    """As in llama.cpp: BOS where the file asks for it, once, whether or not the template writes it."""
    template = with_bos(CHATML) if written else CHATML
    bundled = Bundled(
        write_gguf(tmp_path / "model.gguf", Row(row.kind, row.fields | {TEMPLATE: template}, types=row.types))
    )
    prompt = bundled.chat(MESSAGES)
    bos = bundled.tokens.bos
    assert (prompt[0] == bos) == (begins or written)
    assert prompt.count(bos) == (begins or written)
    row = dataclasses.replace(row, fields=row.fields | {TEMPLATE: CHATML})
    rest = Bundled(write_gguf(tmp_path / "other.gguf", row)).chat(MESSAGES)
    assert prompt[begins or written :] == rest[begins:]


# --- damage ---


def rewrite(path: Path, row: Row, **changes: Any) -> Path:
    """The row's file with other arrays; None leaves one out."""
    reader = gguf.GGUFReader(write_gguf(path.with_suffix(".whole"), row))
    writer = gguf.GGUFWriter(path, "llama")
    for key, field in reader.fields.items():
        name = key.removeprefix("tokenizer.ggml.")
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        _put(writer, key, changes.pop(name, field.contents()))
    for name, value in changes.items():
        _put(writer, f"tokenizer.ggml.{name}", value)
    writer.add_tensor("token_embd.weight", np.array(reader.tensors[0].data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _put(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    else:
        add(writer, key, value)


SPLIT_TWICE = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *"abc\u2581", "bc", "ab"]
DAMAGED: dict[str, tuple[Row, dict[str, Any], str]] = {
    "no merges": (Row(BYTE_LEVEL), {"merges": None}, r"the metadata lack tokenizer\.ggml\.merges; get the file again"),
    "merges of other tokens": (
        Row(BYTE_LEVEL),
        {"merges": ["q zzzz"]},
        r"the tokenizer \(gpt2\) cannot be converted .*convert the model's Hugging Face directory instead",
    ),
    "no scores": (
        Row(SENTENCEPIECE),
        {"scores": None},
        r"the metadata lack tokenizer\.ggml\.scores; get the file again",
    ),
    "too few scores": (Row(SENTENCEPIECE), {"scores": [0.0] * 9}, r"scores has 9 numbers for 965 tokens; get the file"),
    "scores that are texts": (Row(SENTENCEPIECE), {"scores": ["x"] * 965}, r"scores must be a list of numbers"),
    "too few types": (Row(BYTE_LEVEL), {"token_type": [1] * 3}, r"token_type has 3 numbers for 906 tokens"),
    "a token twice": (Row(BYTE_LEVEL), {"tokens": ["a", "b", "a"], "token_type": None}, r"holds 'a' twice"),
    "no token": (Row(BYTE_LEVEL), {"tokens": 5, "token_type": None}, r"tokens must be"),
    "a flag that is a number": (Row(BYTE_LEVEL), {"add_bos_token": 7}, r"add_bos_token must be true or false, got 7"),
    "a flag that is text": (Row(SENTENCEPIECE), {"add_space_prefix": "no"}, r"must be true or false, got 'no'"),
    "another kind": (Row(BYTE_LEVEL), {"model": "t5"}, r"model is 't5', and only gpt2 and llama can be converted"),
    "no kind": (Row(BYTE_LEVEL), {"model": None}, r"model is None, and only gpt2 and llama can be converted"),
    "scores that say nothing": (
        Row(SENTENCEPIECE),
        {"tokens": SPLIT_TWICE, "token_type": None, "scores": [0.0] * len(SPLIT_TWICE)},
        r"the vocabulary's scores do not order its merges: .* and .* are right",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_refused(name: str, tmp_path: Path) -> None:
    row, changes, message = DAMAGED[name]
    path = rewrite(tmp_path / "model.gguf", row, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        Bundled(path).encode("x")
    assert "\n" not in str(caught.value)


def test_a_file_rewritten_as_it_was(tmp_path: Path) -> None:
    for row in (Row(BYTE_LEVEL), Row(SENTENCEPIECE)):
        same = Bundled(rewrite(tmp_path / "model.gguf", row))
        assert [same.encode(text) for text in TEXTS] == [
            Bundled(write_gguf(tmp_path / "other.gguf", row)).encode(text) for text in TEXTS
        ]


@pytest.mark.parametrize("kind", ["none", "no_vocab"])
def test_a_file_that_says_it_has_no_tokenizer(kind: str, tmp_path: Path) -> None:
    row = Row(BYTE_LEVEL, {"llama.vocab_size": 906})
    path = rewrite(tmp_path / "model.gguf", row, model=kind, tokens=None, token_type=None, merges=None)
    assert Bundled(path).checkpoint.tokenizer() is None


def test_empty_tokens_get_a_name(tmp_path: Path) -> None:
    tokens = [*golden()["vocabularies"][BYTE_LEVEL]["tokens"], ""]
    path = rewrite(tmp_path / "model.gguf", Row(BYTE_LEVEL), tokens=tokens, token_type=None, bos_token_id=None)
    bundled = Bundled(path)
    assert bundled.tokenizer.decode([len(tokens) - 1]) == f"[EMPTY_{len(tokens) - 1}]"


# --- the slow way of SentencePiece, against what llama.cpp said ---


def test_the_slow_way_is_llama_cpps(tmp_path: Path) -> None:
    row = ROWS["SentencePiece, add_space_prefix True, add_bos_token False, add_eos_token False"]
    bundled = Bundled(write_gguf(tmp_path / "model.gguf", row))
    vocabulary = read_vocabulary(bundled.path, bundled.checkpoint.metadata)
    answers = golden()["answers"][
        golden()["rows"]["SentencePiece, add_space_prefix True, add_bos_token False, add_eos_token False"]
    ]
    for text, tokens in zip(TEXTS, answers["tokens"], strict=True):
        if text and "<" not in text:
            assert sentencepiece_merges.slow_tokens(vocabulary, f"\u2581{text}".replace(" ", "\u2581")) == tokens


# --- how tokens are drawn ---

DRAWN = "general.sampling."
SAMPLING: dict[str, tuple[dict[str, Any], Sampling, list[str]]] = {
    "everything": (
        {"temp": 0.6, "top_k": 20, "top_p": 0.95, "penalty_repeat": 1.05},
        Sampling(0.6, 20, 0.95, 1.05),
        [],
    ),
    "a temperature": ({"temp": 0.7}, Sampling(0.7), []),
    "no temperature": ({"top_k": 20}, Sampling(1.0, 20), []),
    "settings that are not supported": (
        {"temp": 0.7, "min_p": 0.05, "mirostat": 2},
        Sampling(0.7),
        [r"min_p = 0\.05", "mirostat = 2"],
    ),
}


@pytest.mark.parametrize("name", SAMPLING)
def test_how_tokens_are_drawn(name: str, tmp_path: Path) -> None:
    settings, kept, left_out = SAMPLING[name]
    fields = {f"{DRAWN}{key}": value for key, value in settings.items()}
    checkpoint = Bundled(write_gguf(tmp_path / "model.gguf", Row(BYTE_LEVEL, fields))).checkpoint
    assert checkpoint.sampling == kept
    assert len(checkpoint.warnings) == len(left_out)
    for setting, sentence in zip(left_out, checkpoint.warnings, strict=True):
        assert re.search(rf"general\.sampling\.\* asks for {setting}", sentence)


def test_chat_settings_of_a_folder_add_no_bos(tmp_path: Path) -> None:
    """A folder's conversations are what its template writes, as in transformers."""
    files = {"tokenizer.json": json_with("<s>", "<|im_start|>", "<|im_end|>")}
    files["tokenizer_config.json"] = CHAT | {"bos_token": "<s>", "add_bos_token": True}
    bundled = Bundled(write_folder(tmp_path / "model", files))
    assert not bundled.files.chat_adds_bos
    assert bundled.chat(MESSAGES)[0] != bundled.tokens.bos
