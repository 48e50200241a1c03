"""The tokenizer inside a GGUF file: split as the model's own tokenizer.json splits, special tokens within bounds."""

import io
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tokenizers import Regex, Tokenizer
from tokenizers import pre_tokenizers as pre

from shadowattn.converter.checkpoint import TokenizerFiles
from shadowattn.converter.formats import open_checkpoint
from shadowattn.converter.pipeline import convert

TEXT = "Call 555-1234 at 3.14,  x2 = 1999; it's  THEIRS\n\n  10\t20 \u0661\u0662 na\u00efve"
BYTES = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
CONTROL = ["<|start|>", "<|end|>"]
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def split(regex: str) -> pre.PreTokenizer:
    return pre.Sequence([pre.Split(Regex(regex), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)])


# As the models' published tokenizer.json have them.
SMOLLM = pre.Sequence(
    [
        pre.Digits(individual_digits=True),
        pre.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
    ]
)
PUBLISHED = {
    "smollm": SMOLLM,
    "starcoder": SMOLLM,
    "gpt-2": pre.ByteLevel(add_prefix_space=False),
    "llama-bpe": split(LLAMA3_SPLIT),
    "qwen2": split(LLAMA3_SPLIT.replace("{1,3}", "")),
}


def vocabulary() -> list[str]:
    """Every byte, and merges of digits and spaces with what follows: how text is cut shows in the tokens."""
    letters = [chr(code) for code in BYTES] + [chr(256 + i) for i in range(256 - len(BYTES))]
    space = chr(256 + 32)
    merged = ["19", "99", "1999", "55", "555", f"{space}x", f"{space}1", f"{space}{space}"]
    return [*letters, *merged, *CONTROL]


MERGES = ["1 9", "9 9", "19 99", "5 5", "55 5", "\u0120 x", "\u0120 1", "\u0120 \u0120"]


def write_gguf(path: Path, fields: dict[str, Any], tensors: dict[str, np.ndarray] | None = None) -> Path:
    """A llama file with a byte-level BPE tokenizer; `fields` are changes of its metadata, None leaves one out."""
    tokens = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    metadata: dict[str, Any] = {
        "llama.block_count": 1,
        "llama.context_length": 64,
        "llama.embedding_length": 8,
        "llama.feed_forward_length": 8,
        "llama.attention.head_count": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.bos_token_id": len(tokens) - 2,
        "tokenizer.ggml.eos_token_id": len(tokens) - 1,
    } | fields
    for key, value in metadata.items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif value is not None:
            writer.add_uint32(key, value)
    writer.add_array("tokenizer.ggml.tokens", tokens)
    writer.add_array("tokenizer.ggml.token_type", [1] * (len(tokens) - 2) + [3, 3])
    writer.add_array("tokenizer.ggml.merges", MERGES)
    for name, tensor in (tensors or {"token_embd.weight": np.zeros((len(tokens), 8), np.float32)}).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tokenizer_of(path: Path) -> TokenizerFiles:
    files = open_checkpoint(path).tokenizer()
    assert files is not None
    return files


def cut(pre_tokenizer: pre.PreTokenizer) -> list[str]:
    return [piece for piece, _ in pre_tokenizer.pre_tokenize_str(TEXT)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_text_is_cut_as_by_the_published_tokenizer(name, tmp_path):
    files = tokenizer_of(write_gguf(tmp_path / "model.gguf", {"tokenizer.ggml.pre": name}))
    assert cut(Tokenizer.from_str(files.json).pre_tokenizer) == cut(PUBLISHED[name])
    assert files.warnings == ()


def test_smollm_keeps_digits_apart(tmp_path):
    files = tokenizer_of(write_gguf(tmp_path / "model.gguf", {}))
    assert Tokenizer.from_str(files.json).encode("x 1999").tokens == ["x", "\u0120", "1", "9", "9", "9"]


@pytest.mark.parametrize("name", ["default", "tekken", "llama3"])
def test_every_split_keeps_the_text(name, tmp_path):
    files = tokenizer_of(write_gguf(tmp_path / "model.gguf", {"tokenizer.ggml.pre": name}))
    tokenizer = Tokenizer.from_str(files.json)
    assert tokenizer.decode(tokenizer.encode(TEXT).ids) == TEXT
    assert ('"ignore_merges":true' in files.json) == (name != "default")


@pytest.mark.parametrize("name", ["unheard-of", None])
def test_an_unknown_split_is_said_once(name, tmp_path):
    (warning,) = tokenizer_of(write_gguf(tmp_path / "model.gguf", {"tokenizer.ggml.pre": name})).warnings
    assert f"model.gguf: tokenizer.ggml.pre is {name!r}, and known are gpt-2" in warning
    assert "convert its Hugging Face directory" in warning


def random_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    square = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    norms = ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")
    return (
        {f"blk.0.{name}.weight": rng.normal(size=(8, 8)).astype(np.float32) for name in square}
        | {f"{name}.weight": np.ones(8, np.float32) for name in norms}
        | {"token_embd.weight": rng.normal(size=(len(vocabulary()), 8)).astype(np.float32)}
    )


def test_a_conversion_warns_on_its_progress_stream(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", {"tokenizer.ggml.pre": "unheard-of"}, random_weights())
    shown = io.StringIO()
    convert(path, tmp_path / "out.bundle", weights="float32", prefill_chunks=(2,), progress=shown)
    (warning,) = [line for line in shown.getvalue().splitlines() if line.startswith("warning: ")]
    assert "tokenizer.ggml.pre is 'unheard-of'" in warning


@pytest.mark.parametrize("index", [2**32 - 1, 10_000])
@pytest.mark.parametrize("key", ["padding", "unknown", "eos", "bos"])
def test_special_tokens_outside_the_vocabulary_are_left_out(key, index, tmp_path):
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", {f"tokenizer.ggml.{key}_token_id": index}))
    files = checkpoint.tokenizer()
    assert files is not None
    wanted = {"bos_token": "<|start|>", "eos_token": "<|end|>"}
    assert files.special_tokens == {name: text for name, text in wanted.items() if name != f"{key}_token"}
    last = len(vocabulary()) - 1
    assert checkpoint.bos_token_id == (None if key == "bos" else last - 1)
    assert checkpoint.stop_token_ids == (last,)  # <|end|> ends answers, whatever the metadata name
    assert any(f"tokenizer.ggml.{key}_token_id names token {index}" in warning for warning in files.warnings)
