"""What a caller may give for token ids."""

import operator
from collections.abc import Iterable

from shadowattn.models.bundle import Manifest


def check_ids(token_ids: Iterable[int], manifest: Manifest, most: int, kept: int = 0) -> list[int]:
    """Token ids of the vocabulary, as integers, that fit into `most` positions after `kept`. Raises ValueError."""
    ids = [operator.index(token) for token in token_ids]
    vocab = manifest.model.vocab_size
    if not ids:
        raise ValueError("the prompt is empty: at least one token is needed")
    for index, token in enumerate(ids):
        if not 0 <= token < vocab:
            raise ValueError(f"token id {token} at index {index} is outside the vocabulary of {vocab}")
    check_room(len(ids), kept, most)
    return ids


def check_room(count: int, kept: int, most: int) -> None:
    """Raises ValueError unless `count` more positions fit."""
    if kept + count > most:
        raise ValueError(
            f"{count} tokens do not fit: {kept} of {most} positions are used; shorten the text, "
            "rewind() or reset() the session"
        )


def common_prefix(ours: list[int], theirs: list[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(ours, theirs, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
