"""What `bench` measures on: prompts of chosen lengths cut from a text, or one prompt as it is asked."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shadowattn.models.bundle import Manifest
from shadowattn.runtime.text import files
from shadowattn.runtime.text.chat import ChatTemplate, Conversation
from shadowattn.runtime.text.tokenizer import BundleTokenizer

DEFAULT_LENGTHS = (512, 1024, 2048, 4096)


@dataclasses.dataclass(frozen=True)
class Item:
    """One prompt, and the tokens that both settings decode after it (None: the greedy answer of dense attention)."""

    prompt: tuple[int, ...]
    continuation: tuple[int, ...] | None


@dataclasses.dataclass(frozen=True)
class Workload:
    """Prompts in ascending length, and in words where they come from."""

    source: str
    items: tuple[Item, ...]


def from_text(
    bundle: Path, manifest: Manifest, file: str | None, lengths: Sequence[int], decode_tokens: int
) -> Workload:
    """Prompts of these (ascending) lengths from the start of a text; they go on as the text does.

    file None: Python's own documentation, or random token ids where the bundle has no tokenizer.
    """
    wanted = lengths[-1] + decode_tokens
    if manifest.tokenizer.file is None:
        source, tokens = "random token ids", _random_tokens(bundle, manifest, file, wanted)
    else:
        source, text = read_text(file)
        tokens = BundleTokenizer.open(bundle, manifest).encode(text)
    if len(tokens) < wanted:
        raise ValueError(f"{source}: wanted at least {wanted:,} tokens, got {len(tokens):,}; give a longer text")
    items = (Item(tuple(tokens[:n]), tuple(tokens[n : n + decode_tokens])) for n in lengths)
    return Workload(source, tuple(items))


def from_prompt(bundle: Path, manifest: Manifest, file: Path, chat: bool, most: int, decode_tokens: int) -> Workload:
    """One prompt, as `generate` would ask it. most: positions that a session may hold."""
    tokenizer = BundleTokenizer.open(bundle, manifest)
    text = files.read_prompt(file)
    if chat:
        token_ids = Conversation(ChatTemplate.open(bundle, manifest), tokenizer).ask(text)
    else:
        token_ids = tokenizer.encode(text)
    if len(token_ids) + decode_tokens > most:
        raise ValueError(
            f"{file}: {len(token_ids):,} tokens and {decode_tokens:,} decode steps need more than the {most:,} "
            "positions of a session; use a shorter prompt or convert the model with a larger --max_length"
        )
    return Workload(f"{file}{' as a chat' if chat else ''}", (Item(tuple(token_ids), None),))


def fitting_lengths(asked: tuple[int, ...] | None, decode_tokens: int, most: int) -> tuple[int, ...]:
    """The prompt lengths asked for, or those of DEFAULT_LENGTHS that fit. Raises ValueError if one does not fit."""
    if asked is None:
        return tuple(n for n in DEFAULT_LENGTHS if n + decode_tokens <= most) or (max(1, most // 2),)
    if asked[-1] + decode_tokens > most:
        raise ValueError(
            f"--prompt_lengths: {asked[-1]:,} tokens and {decode_tokens:,} decode steps need more than the {most:,} "
            "positions of a session; use shorter prompts or convert the model with a larger --max_length"
        )
    return asked


def _random_tokens(bundle: Path, manifest: Manifest, file: str | None, count: int) -> list[int]:
    if file is not None:
        raise ValueError(f"{bundle}: the bundle has no tokenizer, so --text cannot be used; leave it out")
    print("shadowattn: the bundle has no tokenizer: measuring on random token ids", file=sys.stderr)
    return [int(token) for token in np.random.default_rng(0).integers(0, manifest.model.vocab_size, count)]


def read_text(file: str | None) -> tuple[str, str]:
    """(name, text) of a file in UTF-8, or of Python's own documentation. Raises ValueError, OSError."""
    if file is not None:
        return file, files.read_text(Path(file))
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise ValueError("this Python lacks pydoc_data.topics, the default text; give one with --text=FILE") from None
    return "pydoc_data.topics", "\n\n".join(topics[name] for name in sorted(topics))
