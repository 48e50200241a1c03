"""The vocabulary inside a GGUF file, read as llama.cpp reads it: texts, types, special tokens, flags."""

import collections
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

PREFIX = "tokenizer.ggml."
TOKENS = f"{PREFIX}tokens"
SENTENCEPIECE, BYTE_LEVEL = "llama", "gpt2"  # of tokenizer.ggml.model
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # of tokenizer.ggml.token_type

# The ids that llama.cpp takes where a SentencePiece file names none (its defaults for byte-level files are Falcon's).
_DEFAULT_IDS = {"bos": 1, "eos": 2, "unknown": 0}


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """tokens, types: by token id. metadata: of the whole file, arrays unread."""

    path: Path
    metadata: Mapping[str, Any]
    tokens: tuple[str, ...]
    types: tuple[int, ...]

    @property
    def kind(self) -> str | None:
        """Which algorithm cuts text into tokens."""
        return self.metadata.get(f"{PREFIX}model")

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """Text of a token -> its id."""
        return {text: index for index, text in enumerate(self.tokens)}

    def special_id(self, name: str) -> int | None:
        """The token that `tokenizer.ggml.<name>_token_id` names, or llama.cpp's default; None: there is neither."""
        named = named_id(self.metadata, name)
        if named is not None and named < len(self.tokens):
            return named
        default = _DEFAULT_IDS.get(name) if self.kind == SENTENCEPIECE else None
        return default if default is not None and default < len(self.tokens) else None

    def flag(self, name: str, default: bool) -> bool:
        """`tokenizer.ggml.<name>`. Raises ValueError if it is neither true nor false."""
        value = self.metadata.get(f"{PREFIX}{name}", default)
        if value not in (0, 1):
            raise ValueError(
                f"{self.path}: {PREFIX}{name} must be true or false, got {value!r:.60}; get the file again"
            )
        return bool(value)

    def numbers(self, name: str) -> np.ndarray | None:
        """The array `tokenizer.ggml.<name>`, one number a token. Raises ValueError if it is not that."""
        field = self.metadata.get(f"{PREFIX}{name}")
        return None if field is None else _numbers(self.path, f"{PREFIX}{name}", field, len(self.tokens))

    def texts(self, name: str) -> list[str] | None:
        """The array of texts `tokenizer.ggml.<name>`. Raises ValueError if it is not that."""
        field = self.metadata.get(f"{PREFIX}{name}")
        return None if field is None else _texts(self.path, f"{PREFIX}{name}", field)


def read_vocabulary(path: Path, metadata: Mapping[str, Any]) -> Vocabulary | None:
    """None where the file has none. Raises ValueError if it is damaged."""
    if TOKENS not in metadata:
        return None
    tokens = tuple(text or f"[EMPTY_{index}]" for index, text in enumerate(_texts(path, TOKENS, metadata[TOKENS])))
    if not tokens:
        raise ValueError(f"{path}: {TOKENS} is empty; get the file again")
    field = metadata.get(f"{PREFIX}token_type")
    types = (NORMAL,) * len(tokens)
    if field is not None:
        types = tuple(map(int, _numbers(path, f"{PREFIX}token_type", field, len(tokens))))
    twice, count = collections.Counter(tokens).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{path}: {TOKENS} holds {twice!r:.60} twice; get the file again")
    return Vocabulary(path, metadata, tokens, types)


def named_id(metadata: Mapping[str, Any], name: str) -> int | None:
    """The id that `tokenizer.ggml.<name>_token_id` states, whether or not there is such a token."""
    index = metadata.get(f"{PREFIX}{name}_token_id")
    return index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else None


def _texts(path: Path, key: str, field: Any) -> list[str]:
    try:
        texts = field.contents()
    except (AttributeError, ValueError) as error:  # a scalar; bytes that are no UTF-8
        raise ValueError(
            f"{path}: {key} must be a list of texts in UTF-8 ({error!s:.80}); get the file again"
        ) from None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path}: {key} must be a list of texts; get the file again")
    return texts


def _numbers(path: Path, key: str, field: Any, count: int) -> np.ndarray:
    numbers = np.array(field.contents() if hasattr(field, "contents") else field)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf":
        raise ValueError(f"{path}: {key} must be a list of numbers; get the file again")
    if len(numbers) < count:
        raise ValueError(f"{path}: {key} has {len(numbers)} numbers for {count} tokens; get the file again")
    return numbers[:count]
