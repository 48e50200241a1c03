"""A SentencePiece vocabulary of a GGUF file as BPE: merges in the order of the scores, held against the slow way.

llama.cpp joins the two neighbours whose text is the token of the highest score, the leftmost of equals, until none is
left. Merges say the same wherever scores differ and every character is a token; `check` refuses where they do not.
"""

import itertools

import numpy as np
from tokenizers import Tokenizer

from shadowattn.converter.gguf_vocabulary import PREFIX, Vocabulary
from shadowattn.converter.text_grid import TEXTS

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_TRIED = 64


def merges(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Every way to make a token of two others, the highest score first. Raises ValueError if there are no scores."""
    scores = _scores(vocabulary)
    ranked = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    return [
        (text[:cut], text[cut:])
        for text in (vocabulary.tokens[index] for index in ranked)
        for cut in range(1, len(text))
        if text[:cut] in vocabulary.ids and text[cut:] in vocabulary.ids
    ]


def slow_tokens(vocabulary: Vocabulary, text: str) -> list[int]:
    """The oracle: ids of a text without special tokens, its spaces already written as the vocabulary does."""
    scores, ids = _scores(vocabulary), vocabulary.ids
    pieces = list(text)
    while True:
        joined = [(-scores[ids[a + b]], i) for i, (a, b) in enumerate(itertools.pairwise(pieces)) if a + b in ids]
        if not joined:
            break
        _, at = min(joined)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    found: list[int] = []
    for piece in pieces:
        found += [ids[piece]] if piece in ids else _bytes(vocabulary, piece)
    return found


def check(vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
    """Raises ValueError if `tokenizer` cuts a text otherwise than the oracle: ordinary ones and tokens of its own."""
    prefix = _SPACE if vocabulary.flag("add_space_prefix", True) else ""
    for text in (*TEXTS, *_own_texts(vocabulary), *_tied_texts(vocabulary)):
        if not text or any(token.content in text for token in tokenizer.get_added_tokens_decoder().values()):
            continue
        wanted = slow_tokens(vocabulary, prefix + text.replace(" ", _SPACE))
        found = tokenizer.encode(text, add_special_tokens=False).ids
        if found != wanted:
            raise ValueError(
                f"{vocabulary.path}: the vocabulary's scores do not order its merges: {text!r:.60} would become the "
                f"tokens {found!s:.80}, and {wanted!s:.80} are right; convert the model's Hugging Face directory"
            )


def _own_texts(vocabulary: Vocabulary) -> list[str]:
    """Tokens all over the vocabulary, two by two, and those with a character that is no token."""
    words = [token.replace(_SPACE, " ") for token in vocabulary.tokens[:: max(1, len(vocabulary.tokens) // _TRIED)]]
    odd = (token for token in vocabulary.tokens if any(letter not in vocabulary.ids for letter in token))
    return [a + b for a, b in itertools.pairwise(words)] + list(itertools.islice(odd, _TRIED))


def _tied_texts(vocabulary: Vocabulary) -> list[str]:
    """Where two tokens of one score overlap, the leftmost counts, which no order of merges can say."""
    scores = _scores(vocabulary)
    groups: dict[float, list[str]] = {}
    for text in dict.fromkeys(a + b for a, b in merges(vocabulary)):
        groups.setdefault(float(scores[vocabulary.ids[text]]), []).append(text)
    tied = [group[:_TRIED] for group in groups.values() if len(group) > 1][:_TRIED]
    overlaps = (
        first + second[common:]
        for group in tied
        for first, second in itertools.permutations(group, 2)
        for common in range(1, min(len(first), len(second)))
        if first.endswith(second[:common])
    )
    return [text.replace(_SPACE, " ") for text in itertools.islice(overlaps, _TRIED)]


def _scores(vocabulary: Vocabulary) -> np.ndarray:
    scores = vocabulary.numbers("scores")
    if scores is None:
        raise ValueError(f"{vocabulary.path}: the metadata lack {PREFIX}scores; get the file again")
    return scores


def _bytes(vocabulary: Vocabulary, piece: str) -> list[int]:
    names = [f"<0x{byte:02X}>" for byte in piece.encode()]
    if all(name in vocabulary.ids for name in names):
        return [vocabulary.ids[name] for name in names]
    unknown = vocabulary.special_id("unknown")
    return [] if unknown is None else [unknown]
