"""The tokenizer inside a GGUF file -> tokenizer.json, special tokens, stop tokens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shadowattn.converter import toolchain

_SPECIAL = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
}
_STOPS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")


def tokenizer_json(path: Path, metadata: Mapping[str, Any]) -> str | None:
    """Text of tokenizer.json, converted by transformers; None where the file holds no tokenizer.

    Raises ValueError if the tokenizer's type cannot be converted.
    """
    if "tokenizer.ggml.tokens" not in metadata:
        return None
    from transformers import AutoTokenizer

    try:
        with toolchain.quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
        return str(tokenizer.backend_tokenizer.to_str())
    except Exception as error:
        raise ValueError(
            f"{path}: the tokenizer ({metadata.get('tokenizer.ggml.model')}) cannot be converted "
            f"({type(error).__name__}: {error!s:.200}); convert the model's Hugging Face directory instead"
        ) from error


def special_tokens(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Name in a chat template -> text of the token."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    if tokens is None:
        return {}
    found = {name: metadata.get(key) for name, key in _SPECIAL.items()}
    return {name: tokens.contents(int(index)) for name, index in found.items() if index is not None}


def stop_token_ids(metadata: Mapping[str, Any]) -> tuple[int, ...]:
    """Every token that ends an answer, as the metadata name them."""
    return tuple(dict.fromkeys(int(metadata[key]) for key in _STOPS if metadata.get(key) is not None))
