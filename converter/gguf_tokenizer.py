"""The tokenizer inside a GGUF file -> tokenizer.json, special tokens, stop tokens."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf

from shadowattn.converter import toolchain
from shadowattn.converter.checkpoint import TokenizerFiles
from shadowattn.converter.gguf_pretokenizers import KNOWN

_SPECIAL = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
}
_STOPS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")


_BYTE_LEVEL = "gpt2"
_MODEL = "tokenizer.ggml.model"
_PRE = "tokenizer.ggml.pre"


def tokenizer_files(path: Path, metadata: Mapping[str, Any]) -> TokenizerFiles | None:
    """The tokenizer, converted by transformers and split as `tokenizer.ggml.pre` says; None where the file has none.

    Raises ValueError if the tokenizer's type cannot be converted.
    """
    if "tokenizer.ggml.tokens" not in metadata:
        return None
    template = metadata.get("tokenizer.chat_template")
    return TokenizerFiles(
        _tokenizer_json(path, metadata),
        template if isinstance(template, str) else None,
        special_tokens(metadata),
        _doubts(path, metadata),
    )


def _tokenizer_json(path: Path, metadata: Mapping[str, Any]) -> str:
    from transformers import AutoTokenizer

    try:
        with toolchain.quiet(), _readable_header(path, metadata) as header:
            tokenizer = AutoTokenizer.from_pretrained(
                str(header.parent), gguf_file=header.name, local_files_only=True
            ).backend_tokenizer
        if metadata.get(_MODEL) == _BYTE_LEVEL and (pre := KNOWN.get(str(metadata.get(_PRE)))) is not None:
            pre.apply(tokenizer)
        return str(tokenizer.to_str())
    except Exception as error:
        raise ValueError(
            f"{path}: the tokenizer ({metadata.get(_MODEL)}) cannot be converted "
            f"({type(error).__name__}: {error!s:.200}); convert the model's Hugging Face directory instead"
        ) from error


@contextlib.contextmanager
def _readable_header(path: Path, metadata: Mapping[str, Any]) -> Iterator[Path]:
    """The file itself; where a special token is none of the vocabulary (-1 is seen), a copy that does not name it."""
    wrong = [key for key in _SPECIAL.values() if key in metadata and token_id(metadata, key) is None]
    if not wrong:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        with path.open("rb") as file:
            header = file.read(gguf.GGUFReader(path).data_offset)
        for key in wrong:
            header = header.replace(key.encode(), b"-" * len(key), 1)
        copy = Path(folder) / "header.gguf"
        copy.write_bytes(header)
        os.truncate(copy, path.stat().st_size)  # zeros in place of weights, without taking space
        yield copy


def _doubts(path: Path, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """One sentence if text may be split differently than the model was trained with."""
    pre = metadata.get(_PRE)
    if metadata.get(_MODEL) != _BYTE_LEVEL or pre in KNOWN:
        return ()
    return (
        f"{path}: {_PRE} is {pre!r}, and known are {', '.join(KNOWN)}; text may be cut into other tokens than in "
        "training, so compare the tokenizer with the model's own or convert its Hugging Face directory",
    )


def token_id(metadata: Mapping[str, Any], key: str) -> int | None:
    """A token that the metadata name, if they do and it is of the vocabulary."""
    tokens, index = metadata.get("tokenizer.ggml.tokens"), metadata.get(key)
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        return None
    return index if tokens is None or index < len(tokens.data) else None


def special_tokens(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Name in a chat template -> text of the token."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    if tokens is None:
        return {}
    found = {name: token_id(metadata, key) for name, key in _SPECIAL.items()}
    return {name: tokens.contents(index) for name, index in found.items() if index is not None}


def stop_token_ids(metadata: Mapping[str, Any]) -> tuple[int, ...]:
    """Every token that ends an answer, as the metadata name them."""
    found = (token_id(metadata, key) for key in _STOPS)
    return tuple(dict.fromkeys(index for index in found if index is not None))
